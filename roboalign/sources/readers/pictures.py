"""From recorded pictures to frames of one size: crop, fit, resample."""

import numpy as np
from PIL import Image

from roboalign.sources.readers.spec import PictureSpec
from roboalign.types import UInt8


def frame(picture: UInt8, spec: PictureSpec) -> UInt8:
    """The frame (height, width, 3) of a picture (H, W, 3). Pure; a picture of the wanted size passes unchanged."""
    high, wide = picture.shape[:2]
    crop = spec.crop
    top, bottom = round(crop.top * high), max(round(crop.bottom * high), round(crop.top * high) + 1)
    left, right = round(crop.left * wide), max(round(crop.right * wide), round(crop.left * wide) + 1)
    kept = picture[top:bottom, left:right]
    match spec.fit:
        case "crop":
            high, wide = kept.shape[:2]
            width = min(wide, max(1, round(high * spec.width / spec.height)))
            height = min(high, max(1, round(wide * spec.height / spec.width)))
            y, x = (high - height) // 2, (wide - width) // 2
            return _resized(kept[y : y + height, x : x + width], spec.height, spec.width)
        case "stretch":
            return _resized(kept, spec.height, spec.width)
        case "pad":
            high, wide = kept.shape[:2]
            scale = min(spec.height / high, spec.width / wide)
            height, width = max(1, round(high * scale)), max(1, round(wide * scale))
            result = np.zeros((spec.height, spec.width, 3), np.uint8)
            y, x = (spec.height - height) // 2, (spec.width - width) // 2
            result[y : y + height, x : x + width] = _resized(kept, height, width)
            return result


def _resized(picture: UInt8, height: int, width: int) -> UInt8:
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    smaller = height <= picture.shape[0] and width <= picture.shape[1]
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), method))
