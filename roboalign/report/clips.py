"""Clips side by side: one animated WebP for each episode, so that all models stay synchronous, and a strip of
stills."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roboalign.types import UInt8

GAP = 4
"""Pixels between two clips of an animation; stills have half as many."""


@dataclass(frozen=True)
class ClipColumn:
    """One model's clip of an episode: heading, frames (T, H, W, 3), and the score shown below, '' for none."""

    title: str
    frames: UInt8
    score: str = ""


@dataclass(frozen=True)
class Showcase:
    """One episode under several models. `pick` is the rule by which it was chosen: highest, median or lowest."""

    episode: str
    source: str
    instruction: str
    pick: str
    columns: Sequence[ClipColumn]


def data_uri(images: Sequence[NDArray[np.uint8]], quality: int, frame_ms: int | None = None) -> str:
    """Encode RGB images (H, W, 3) as a WebP data URI.

    Args:
        images: One image, or the frames of an animation.
        quality: WebP quality, 0 to 100.
        frame_ms: Milliseconds of each frame of a looped animation, whose last frame lasts a second; None for an image.
    """
    frames = [Image.fromarray(image) for image in images]
    buffer = io.BytesIO()
    if frame_ms is None:
        frames[0].save(buffer, "WEBP", quality=quality, method=4)
    else:
        durations = [frame_ms] * (len(frames) - 1) + [1000]
        frames[0].save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
            quality=quality,
            method=4,
            minimize_size=False,
        )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def enlarge(frames: UInt8, height: int) -> UInt8:
    """Scale frames (T, H, W, 3) up by an integer factor, repeating pixels, to at least `height` rows.

    Compression would otherwise blur small objects of few pixels.
    """
    factor = max(1, -(-height // frames.shape[1]))
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def place_side_by_side(columns: Sequence[ClipColumn], height: int) -> UInt8:
    """Frames (T, height, …, 3) of all clips in one row with grey gaps; shorter clips repeat their last frame."""
    length = max(len(column.frames) for column in columns)
    parts: list[UInt8] = []
    for column in columns:
        extended = column.frames[np.minimum(np.arange(length), len(column.frames) - 1)]
        enlarged = enlarge(extended, height)
        parts += [enlarged, np.full((length, enlarged.shape[1], GAP, 3), 128, np.uint8)]
    return np.concatenate(parts[:-1], axis=2)


def strip(columns: Sequence[ClipColumn], stills: int) -> tuple[UInt8, tuple[int, ...]]:
    """An image with one row of `stills` evenly spaced frames for each clip, and the numbers of the frames."""
    length = max(len(column.frames) for column in columns)
    numbers = tuple(int(n) for n in np.unique(np.linspace(0, length - 1, stills).round().astype(int)))
    rows: list[UInt8] = []
    for column in columns:
        cells: list[UInt8] = []
        for number in numbers:
            frame = column.frames[min(number, len(column.frames) - 1)]
            cells += [frame, np.full((frame.shape[0], GAP // 2, 3), 128, np.uint8)]
        row = np.concatenate(cells[:-1], axis=1)
        rows += [row, np.full((GAP // 2, row.shape[1], 3), 128, np.uint8)]
    return np.concatenate(rows[:-1], axis=0), numbers


def animation_uri(showcase: Showcase, height: int, fps: float, quality: int = 82) -> str:
    """The animated WebP of a showcase as a data URI."""
    return data_uri(list(place_side_by_side(showcase.columns, height)), quality, round(1000 / fps))


def strip_uri(showcase: Showcase, stills: int, quality: int = 85) -> tuple[str, tuple[int, ...]]:
    """The strip of stills of a showcase as a data URI, and the numbers of its frames."""
    image, numbers = strip(showcase.columns, stills)
    return data_uri([image], quality), numbers
