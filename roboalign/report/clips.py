"""Clips side by side: one animated WebP an episode, so that all models stay in step, and a strip of stills."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roboalign.types import UInt8

GAP = 4
"""Pixels between two panels of an animation, and between two stills."""


@dataclass(frozen=True)
class Lane:
    """One model's clip of an episode: its heading, its frames (T, H, W, 3), and a score to print below, or ''."""

    title: str
    frames: UInt8
    score: str = ""


@dataclass(frozen=True)
class Showcase:
    """One episode under several models. `pick` says by what rule it was chosen: best, median, worst."""

    episode: str
    source: str
    instruction: str
    pick: str
    lanes: Sequence[Lane]


def data_uri(images: Sequence[NDArray[np.uint8]], quality: int, frame_ms: int | None = None) -> str:
    """RGB images as a WebP data URI; animated in a loop where `frame_ms` is given. The last frame holds a second."""
    pictures = [Image.fromarray(image) for image in images]
    buffer = io.BytesIO()
    if frame_ms is None:
        pictures[0].save(buffer, "WEBP", quality=quality, method=4)
    else:
        durations = [frame_ms] * (len(pictures) - 1) + [1000]
        pictures[0].save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
            quality=quality,
            method=4,
            minimize_size=False,
        )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def enlarge(frames: UInt8, height: int) -> UInt8:
    """Frames (T, H, W, 3) scaled up by a whole factor, by repeating pixels, to at least `height` rows.

    Compression then cannot smear the few pixels that a small object has; frames that are tall enough stay.
    """
    factor = max(1, -(-height // frames.shape[1]))
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def beside(lanes: Sequence[Lane], height: int) -> UInt8:
    """The lanes in one row, (T, height, …, 3); a shorter lane keeps its last frame. Gaps are mid grey."""
    length = max(len(lane.frames) for lane in lanes)
    columns: list[UInt8] = []
    for lane in lanes:
        held = lane.frames[np.minimum(np.arange(length), len(lane.frames) - 1)]
        big = enlarge(held, height)
        columns += [big, np.full((length, big.shape[1], GAP, 3), 128, np.uint8)]
    return np.concatenate(columns[:-1], axis=2)


def strip(lanes: Sequence[Lane], stills: int) -> tuple[UInt8, tuple[int, ...]]:
    """Stills of every lane at `stills` evenly spaced frames, one lane a row, and the numbers of the frames."""
    length = max(len(lane.frames) for lane in lanes)
    numbers = tuple(int(n) for n in np.unique(np.linspace(0, length - 1, stills).round().astype(int)))
    rows: list[UInt8] = []
    for lane in lanes:
        cells: list[UInt8] = []
        for number in numbers:
            frame = lane.frames[min(number, len(lane.frames) - 1)]
            cells += [frame, np.full((frame.shape[0], GAP // 2, 3), 128, np.uint8)]
        row = np.concatenate(cells[:-1], axis=1)
        rows += [row, np.full((GAP // 2, row.shape[1], 3), 128, np.uint8)]
    return np.concatenate(rows[:-1], axis=0), numbers


def animation_uri(showcase: Showcase, height: int, fps: float, quality: int = 82) -> str:
    """The animated WebP of a showcase as a data URI."""
    return data_uri(list(beside(showcase.lanes, height)), quality, round(1000 / fps))


def strip_uri(showcase: Showcase, stills: int, quality: int = 85) -> tuple[str, tuple[int, ...]]:
    """The strip of a showcase as a data URI, and the numbers of the frames that it shows."""
    image, numbers = strip(showcase.lanes, stills)
    return data_uri([image], quality), numbers
