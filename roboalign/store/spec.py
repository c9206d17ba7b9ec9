"""How a store keeps its frames. Read where neither torch nor numpy is loaded."""

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
