"""The frames of a clip as one picture of tiles, which a page can show frame by frame, exactly, without any codec."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from roboalign.types import UInt8

LOSSLESS_PIXELS = 256 * 256
"""Frames of up to this many pixels are kept exactly; larger ones would make pages of gigabytes."""
QUALITY = 92
"""WebP quality of larger frames."""
WIDEST = 16383
"""Most pixels of a side of a WebP picture."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A clip as one WebP picture: its tiles are the frames, row by row, `columns` in a row."""

    data: bytes
    frames: int
    width: int
    height: int
    columns: int


def sheet(frames: UInt8) -> Sheet:
    """The sheet of frames (T, H, W, 3). Raises ValueError where they do not fit into one WebP picture."""
    count, height, width, _ = frames.shape
    columns = min(math.ceil(math.sqrt(count * height / width)), WIDEST // width)
    rows = math.ceil(count / max(1, columns))
    if columns == 0 or rows * height > WIDEST:
        raise ValueError(f"{count} frames of {height} x {width} pixels do not fit into one picture for the page")
    tiles = np.zeros((rows * columns, height, width, 3), np.uint8)
    tiles[:count] = frames
    tiles[count:] = frames[-1]
    picture = tiles.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    buffer = io.BytesIO()
    exact = height * width <= LOSSLESS_PIXELS
    Image.fromarray(picture).save(buffer, "WEBP", lossless=exact, quality=QUALITY, method=4)
    return Sheet(buffer.getvalue(), count, width, height, columns)


def pad_sheets(sheets: Sequence[Sheet]) -> list[bytes]:
    """The pictures, all of one size in bytes: a still clip could be told from a noisy one by its size otherwise.

    WebP readers stop where the picture's own header says, so the zeros that are added change nothing.
    """
    longest = max(len(one.data) for one in sheets)
    return [one.data.ljust(longest, b"\0") for one in sheets]
