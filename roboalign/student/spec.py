"""The student: the compact reward model that the judge is distilled into."""

from typing import Annotated

from pydantic import Field

from roboalign.reward.spec import RewardModelSpec, ScoringLossSpec


class StudentSpec(RewardModelSpec):
    """A compact reward model with a linear scoring head (paper: 98 M parameters, about 50 videos a second).

    It perceives through the first network of the judge's state probe, which stays as it is: small eyes of its own,
    distilled on the same clips, lost a quarter of the correlation with the judge within groups of rollouts.
    """

    loss: ScoringLossSpec = ScoringLossSpec(within_group=2.0)
    """The loss against the judge's scores."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Clips scored at once; changes the speed, not the scores."""
