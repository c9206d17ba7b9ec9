"""How a store keeps its frames, and which cells of them show which camera. Neither torch nor numpy is loaded for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.spec.base import FieldError, Spec

LOSSLESS_SIDE = 64
"""Pixels a side up to which `auto` keeps frames without loss."""

Images = Literal["png", "h264", "av1"]
"""What frames are kept as."""


class StorageSpec(Spec):
    """How frames are kept: each as a PNG, without loss, or as H.264 or AV1 video, with loss but many times smaller."""

    kind: Literal["auto", "png", "h264", "av1"] = "auto"
    """`auto`: PNG where both sides are at most 64 pixels or one is odd (4:2:0 video has even sides), else H.264."""
    crf: Annotated[int, Field(ge=0, le=63)] = 18
    """Constant rate factor of video: lower is better and larger; 0 to 51 for H.264, 0 to 63 for AV1 (our choice)."""
    gop: Annotated[int, Field(ge=1, le=300)] = 8
    """Frames from one key frame of video to the next (our choice; LeRobot: 2). Clips of 16 frames are read faster from
    groups of 8, at a third of the size, and single frames as fast: frames between key frames decode quicker."""

    @model_validator(mode="after")
    def _crf_of_the_codec(self) -> Self:
        if self.kind in ("auto", "h264") and self.crf > 51:
            raise FieldError("crf", f"H.264 knows a crf of 0 to 51, not {self.crf}")
        return self

    def images(self, height: int, width: int) -> Images:
        """What frames of a size are kept as."""
        if self.kind != "auto":
            return self.kind
        small = max(height, width) <= LOSSLESS_SIDE
        return "png" if small or height % 2 or width % 2 else "h264"


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
