"""The stretches of episodes that a world model is trained on."""

from typing import Annotated

from pydantic import Field

from roboalign.spec.base import Fraction, Spec


class SegmentSpec(Spec):
    """The stretches of episodes that the model is trained on."""

    frames: Annotated[int, Field(ge=1, le=1024)] = 8
    """Predicted frames of one training sequence, after its context frame (8: RLVR-World)."""
    stride: Annotated[int, Field(ge=1, le=1024)] = 1
    """Frames between the starts of two segments of an episode (our choice)."""
    reencoded: Fraction = 0.0
    """Share of the segments whose context is not the true frame but what the tokenizer makes of it after one or more
    refreshes, as SWR's contexts are (our choice). Their first frames are then reconstructions too."""
    refreshes: Annotated[int, Field(ge=1, le=64)] = 3
    """Most refreshes that such a context went through; each at most `frames` frames after the one before."""
