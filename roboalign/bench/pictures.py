"""The pictures of the data card: strips of clips, and histograms of the labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from roboalign.io import replacing
from roboalign.types import UInt8

GAP = 2
"""Pixels between two frames and between two clips."""

LOWEST = 128
"""Rows that a frame of a strip has at least: small frames are enlarged by a whole factor."""

COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73")
"""Okabe and Ito's, told apart with any colour vision."""


def strip(clips: Sequence[UInt8], stills: int = 8) -> UInt8:
    """One row a clip (T, H, W, 3), of frames at the same times; black where a clip has ended already."""
    length, height = max(len(clip) for clip in clips), clips[0].shape[1]
    numbers = np.unique(np.linspace(0, length - 1, stills).round().astype(np.int64))
    factor = -(-LOWEST // height)
    rows: list[UInt8] = []
    for clip in clips:
        cells = [clip[number] if number < len(clip) else np.zeros_like(clip[0]) for number in numbers]
        row = np.concatenate([_append_gap(cell.repeat(factor, 0).repeat(factor, 1), 1) for cell in cells], axis=1)
        rows.append(_append_gap(row, 0))
    return np.concatenate(rows)


def _append_gap(image: UInt8, axis: int) -> UInt8:
    """An image with a grey gap after it, to the right (1) or below (0)."""
    shape = list(image.shape)
    shape[axis] = GAP
    return np.concatenate([image, np.full(shape, 128, np.uint8)], axis=axis)


def save(path: Path, image: UInt8) -> None:
    """Write an image (H, W, 3) as PNG."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG", optimize=True)


def histograms(
    path: Path, scores: Mapping[str, NDArray[np.float64]], names: Sequence[str], maxima: Sequence[float], bins: int = 10
) -> None:
    """Histograms of scores (N, D) as PNG: one row an origin, one column a dimension and the total."""
    columns = [*names, "total"]
    figure = Figure(figsize=(1.7 * len(columns), 1.25 * len(scores) + 0.4), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(scores), len(columns), squeeze=False)
    for row, (origin, values) in enumerate(scores.items()):
        table = np.concatenate([values, values.sum(1, keepdims=True)], axis=1)
        for column, name in enumerate(columns):
            maximum = [*maxima, sum(maxima)][column]
            axis = axes[row][column]
            counts, edges = np.histogram(table[:, column], bins, (0, maximum))
            axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[row % len(COLOURS)])
            axis.set_xlim(0, maximum)
            axis.tick_params(labelsize=6, length=2)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(name.replace("_", "\n", 1).replace("_", " "), fontsize=7)
            if column == 0:
                axis.set_ylabel(f"{origin}\nn = {len(values)}", fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
