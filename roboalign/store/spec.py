"""Spec of the storage of frames, and the division of a frame into cells of cameras. Loads neither torch nor numpy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.spec.base import FieldError, Spec

LOSSLESS_SIDE = 64
"""Largest side in pixels of frames that `auto` stores losslessly."""

ImageFormat = Literal["png", "h264", "av1"]
"""Format of stored frames."""


class StorageSpec(Spec):
    """Storage of frames: as PNG, lossless, or as H.264 or AV1 video, lossy but many times smaller."""

    kind: Literal["auto", "png", "h264", "av1"] = "auto"
    """`auto`: PNG if both sides are at most 64 pixels or one is odd (4:2:0 video needs even sides), else H.264."""
    crf: Annotated[int, Field(ge=0, le=63)] = 18
    """Constant rate factor of video; lower values give better quality and larger files. 0 to 51 for H.264, 0 to 63 for
    AV1 (our choice)."""
    gop: Annotated[int, Field(ge=1, le=300)] = 8
    """Frames from one video key frame to the next (our choice; LeRobot: 2). With 8, clips of 16 frames are read faster
    than with 2, at a third of the size, and single frames equally fast, because non-key frames decode faster."""

    @model_validator(mode="after")
    def _crf_of_the_codec(self) -> Self:
        if self.kind in ("auto", "h264") and self.crf > 51:
            raise FieldError("crf", f"crf must be 0 to 51 for H.264, not {self.crf}")
        return self

    def images(self, height: int, width: int) -> ImageFormat:
        """Return the format for frames of a size in pixels."""
        if self.kind != "auto":
            return self.kind
        small = max(height, width) <= LOSSLESS_SIDE
        return "png" if small or height % 2 or width % 2 else "h264"


TileLayout = Literal["row", "column", "grid"]
"""`row`: side by side; `column`: one below the other; `grid`: rows of ceil(sqrt(number of cameras)) cells."""


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
    """Return the cells of `count` cameras in a frame of `height` x `width` pixels, in the order of the cameras, row by
    row.

    Sides of cells are even, as 4:2:0 video requires, if those of the frame are. If the frame does not divide evenly,
    cells differ by 2 pixels. Unused cells in the last row of a grid stay black.
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
    positions = [divmod(number, columns) for number in range(count)]
    return tuple(
        Tile(tops[row], lefts[column], tops[row + 1] - tops[row], lefts[column + 1] - lefts[column])
        for row, column in positions
    )


def even_edges(parts: int, length: int) -> list[int]:
    """Return the start of each of `parts` parts of a length, and its end; all but the end are even."""
    return [2 * round(part * length / parts / 2) for part in range(parts)] + [length]


def camera_features(cameras: Sequence[str]) -> tuple[str, ...]:
    """Return the image features `observation.images.<camera>` of a store that keeps each camera separately.

    The name is the last part of the camera's key, or the whole key if two cameras share that part.
    """
    last_parts = [key.replace("/", ".").rstrip(".").rpartition(".")[2] for key in cameras]
    names = (
        last_parts
        if len(set(last_parts)) == len(last_parts)
        else [key.replace("/", "_").replace(".", "_") for key in cameras]
    )
    return tuple(f"observation.images.{name}" for name in names)
