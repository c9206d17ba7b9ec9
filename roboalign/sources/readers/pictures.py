"""From recorded pictures to frames of one size: crop, fit, resample."""

import numpy as np
from PIL import Image

from roboalign.sources.readers.spec import PictureSpec
from roboalign.types import UInt8


def frame(picture: UInt8, spec: PictureSpec) -> UInt8:
    """The frame (height, width, 3) of a picture (H, W, 3). Pure; a picture of the wanted size passes unchanged."""
    top, bottom, left, right = crop_bounds(picture.shape[0], picture.shape[1], spec)
    part = picture[top:bottom, left:right]
    if spec.fit != "pad":
        return _resize(part, spec.height, spec.width)
    high, wide = part.shape[:2]
    scale = min(spec.height / high, spec.width / wide)
    height, width = max(1, round(high * scale)), max(1, round(wide * scale))
    result = np.zeros((spec.height, spec.width, 3), np.uint8)
    y, x = (spec.height - height) // 2, (spec.width - width) // 2
    result[y : y + height, x : x + width] = _resize(part, height, width)
    return result


def crop_bounds(high: int, wide: int, spec: PictureSpec) -> tuple[int, int, int, int]:
    """The part of a picture of that height and width that its frame shows: top, bottom, left, right in pixels."""
    crop = spec.crop
    top, left = round(crop.top * high), round(crop.left * wide)
    bottom, right = max(round(crop.bottom * high), top + 1), max(round(crop.right * wide), left + 1)
    # A crop at the far edge of a small picture must still lie in it.
    top, left, bottom, right = min(top, high - 1), min(left, wide - 1), min(bottom, high), min(right, wide)
    if spec.fit != "crop":
        return top, bottom, left, right
    height = min(bottom - top, max(1, round((right - left) * spec.height / spec.width)))
    width = min(right - left, max(1, round((bottom - top) * spec.width / spec.height)))
    y, x = top + (bottom - top - height) // 2, left + (right - left - width) // 2
    return y, y + height, x, x + width


def _resize(picture: UInt8, height: int, width: int) -> UInt8:
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    smaller = height <= picture.shape[0] and width <= picture.shape[1]
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), method))
