"""The frames of a clip as tiles of one image, which a page can show frame by frame, exactly, without a video codec."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from roboalign.types import UInt8

LOSSLESS_PIXELS = 256 * 256
"""Maximum number of pixels of a frame that is stored losslessly; larger ones would need gigabytes."""
QUALITY = 92
"""WebP quality of larger frames."""
WIDEST = 16383
"""Maximum size of a WebP image in pixels."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A clip as one WebP image, whose tiles are the frames, row by row, with `columns` in each row."""

    data: bytes
    frames: int
    width: int
    height: int
    columns: int


def sheet(frames: UInt8, quality: int | None = None) -> Sheet:
    """Encode frames (T, H, W, 3) as a sheet.

    Args:
        frames: The frames.
        quality: WebP quality, 0 to 100; None for lossless frames up to LOSSLESS_PIXELS, and QUALITY above.

    Raises:
        ValueError: The frames do not fit into one WebP image.
    """
    count, height, width, _ = frames.shape
    columns = min(math.ceil(math.sqrt(count * height / width)), WIDEST // width)
    rows = math.ceil(count / max(1, columns))
    if columns == 0 or rows * height > WIDEST:
        raise ValueError(f"{count} frames of {height} x {width} pixels do not fit into one WebP image for the page")
    tiles = np.zeros((rows * columns, height, width, 3), np.uint8)
    tiles[:count] = frames
    tiles[count:] = frames[-1]
    image = tiles.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    buffer = io.BytesIO()
    exact = quality is None and height * width <= LOSSLESS_PIXELS
    Image.fromarray(image).save(buffer, "WEBP", lossless=exact, quality=quality or QUALITY, method=4)
    return Sheet(buffer.getvalue(), count, width, height, columns)


def pad_sheets(sheets: Sequence[Sheet]) -> list[bytes]:
    """The images, padded with zeros to the same number of bytes, so that a clip's size does not reveal its content.

    WebP decoders read only as many bytes as the header says.
    """
    longest = max(len(one.data) for one in sheets)
    return [one.data.ljust(longest, b"\0") for one in sheets]
