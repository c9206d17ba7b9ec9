"""Converts recorded images to frames of one size: crop, fit, resample."""

import numpy as np
from PIL import Image

from roboalign.sources.readers.spec import ImageTransformSpec
from roboalign.types import UInt8


def transform_image(image: UInt8, spec: ImageTransformSpec) -> UInt8:
    """Convert an image (H, W, 3) to a frame (height, width, 3). An image of the right size is returned unchanged."""
    top, bottom, left, right = crop_bounds(image.shape[0], image.shape[1], spec)
    cropped = image[top:bottom, left:right]
    if spec.fit != "pad":
        return _resize(cropped, spec.height, spec.width)
    cropped_height, cropped_width = cropped.shape[:2]
    scale = min(spec.height / cropped_height, spec.width / cropped_width)
    height, width = max(1, round(cropped_height * scale)), max(1, round(cropped_width * scale))
    result = np.zeros((spec.height, spec.width, 3), np.uint8)
    y, x = (spec.height - height) // 2, (spec.width - width) // 2
    result[y : y + height, x : x + width] = _resize(cropped, height, width)
    return result


def crop_bounds(image_height: int, image_width: int, spec: ImageTransformSpec) -> tuple[int, int, int, int]:
    """Return the region (top, bottom, left, right), in pixels, of an image of this height and width that its frame
    shows."""
    crop = spec.crop
    top, left = round(crop.top * image_height), round(crop.left * image_width)
    bottom, right = max(round(crop.bottom * image_height), top + 1), max(round(crop.right * image_width), left + 1)
    # A crop at the far edge of a small image must contain at least one pixel.
    top, left, bottom, right = (
        min(top, image_height - 1),
        min(left, image_width - 1),
        min(bottom, image_height),
        min(right, image_width),
    )
    if spec.fit != "crop":
        return top, bottom, left, right
    height = min(bottom - top, max(1, round((right - left) * spec.height / spec.width)))
    width = min(right - left, max(1, round((bottom - top) * spec.width / spec.height)))
    y, x = top + (bottom - top - height) // 2, left + (right - left - width) // 2
    return y, y + height, x, x + width


def _resize(image: UInt8, height: int, width: int) -> UInt8:
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    smaller = height <= image.shape[0] and width <= image.shape[1]
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), method))
