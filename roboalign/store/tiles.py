"""Frames that show several cameras: which cell belongs to which camera. Read where numpy is not loaded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TileLayout = Literal["row", "column", "grid"]
"""`row`: side by side; `column`: one below the other; `grid`: in rows of ceil(sqrt(number of cameras)) cells."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A camera's cell of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def area(self) -> tuple[slice, slice]:
        """The rows and columns of the frame (H, W, …) that the cell covers."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def divide_frame(count: int, layout: TileLayout, height: int, width: int) -> tuple[Tile, ...]:
    """The cells of `count` cameras in a frame of `height` x `width` pixels, in the order of the cameras: row by row.

    Sides of cells are even, as 4:2:0 video needs them, if those of the frame are; if they do not divide evenly,
    cells differ by 2 pixels. A grid whose last row is not full leaves the rest of that row black.
    """
    match layout:
        case "row":
            columns = count
        case "column":
            columns = 1
        case "grid":
            columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    tops, lefts = even_edges(rows, height), even_edges(columns, width)
    places = [divmod(number, columns) for number in range(count)]
    return tuple(
        Tile(tops[row], lefts[column], tops[row + 1] - tops[row], lefts[column + 1] - lefts[column])
        for row, column in places
    )


def even_edges(parts: int, length: int) -> list[int]:
    """Where each of `parts` parts of a length begins, and its end; all but the end are even."""
    return [2 * round(part * length / parts / 2) for part in range(parts)] + [length]


def camera_features(cameras: Sequence[str]) -> tuple[str, ...]:
    """The features of a store that keeps each camera by itself: `observation.images.<camera>`, by the last part of each
    camera's key, or by the whole key if two cameras share that part."""
    short = [key.replace("/", ".").rstrip(".").rpartition(".")[2] for key in cameras]
    names = short if len(set(short)) == len(short) else [key.replace("/", "_").replace(".", "_") for key in cameras]
    return tuple(f"observation.images.{name}" for name in names)
