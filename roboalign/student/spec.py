"""The student: the compact reward model that the judge is distilled into."""

from typing import Annotated

from pydantic import Field

from roboalign.reward.spec import EncoderSpec
from roboalign.spec.base import Positive, Spec
from roboalign.spec.training import TrainingSpec


class StudentSpec(Spec):
    """A compact visual-text encoder with a linear scoring head (paper: 98 M parameters, about 50 videos a second)."""

    encoder: EncoderSpec
    """What looks at the clip and reads the instruction."""
    delta: Positive = 0.5
    """Where the Huber loss on normalised scores turns from squared to linear. Our choice."""
    teacher_samples: Annotated[int, Field(ge=1, le=100)] = 5
    """Scorings of the judge whose mean is the target of a training clip."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 64
    """Clips scored at once; changes the speed, not the scores."""
    training: TrainingSpec
    """Optimisation."""
