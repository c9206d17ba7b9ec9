"""The student: the compact reward model that the judge is distilled into."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from roboalign.probe.spec import PerceptionSpec
from roboalign.reward.spec import EncoderSpec, ScoringLossSpec
from roboalign.spec.base import FieldError, Fraction, Spec
from roboalign.spec.training import TrainingSpec


class StudentSpec(Spec):
    """A compact reward model with a linear scoring head (paper: 98 M parameters, about 50 videos a second)."""

    encoder: EncoderSpec
    """What reads a clip."""
    perception: PerceptionSpec = PerceptionSpec(widths=(8, 16, 32), hidden_size=64)
    """Its eyes, smaller than the judge's, distilled from the judge's state probe on the same clips. They cover the
    scenes that the judge's cover."""
    perception_weight: Annotated[float, Field(ge=0, le=100)] = 0.3
    """Weight of the loss that teaches the eyes, beside that of the scores."""
    loss: ScoringLossSpec = ScoringLossSpec(within_group=2.0)
    """The loss against the judge's scores."""
    set_size: Annotated[int, Field(ge=2, le=1024)] = 8
    """Clips of one set, the unit of a batch: rollouts of one prompt, or as many single clips."""
    group_share: Fraction = 0.5
    """Share of the sets that are groups of rollouts; 0 if the bench has none."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Clips scored at once; changes the speed, not the scores."""
    training: TrainingSpec
    """Optimisation; `batch` counts sets."""

    @model_validator(mode="after")
    def _single(self) -> Self:
        if self.perception.members != 1:
            raise FieldError("perception.members", f"the student has one pair of eyes, not {self.perception.members}")
        return self
