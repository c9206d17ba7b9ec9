"""The judge (the paper's RoboAlign-Judge), which scores videos in every dimension of the reward."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.judge.base_spec import JudgeSpecBase
from roboalign.judge.openai_api_spec import OpenAIJudgeSpec
from roboalign.judge.qwen3_vl_spec import Qwen3VLJudgeSpec
from roboalign.reward.spec import RewardModelSpec
from roboalign.spec.base import FieldError

__all__ = ["JudgeName", "JudgeSpec", "OpenAIJudgeSpec", "Qwen3VLJudgeSpec", "RegressionJudgeSpec"]

JudgeName = Literal["judge", "held_out"]
"""`judge` teaches the student; `held_out`, of other perception, seed and size, only confirms."""


class RegressionJudgeSpec(JudgeSpecBase, RewardModelSpec):
    """An ensemble of reward models over the judge's state probe, trained in place on the bench's labels (our choice for
    machines without a pretrained model)."""

    kind: Literal["regression"]
    members: Annotated[int, Field(ge=1, le=64)] = 4
    """Ensemble members, each trained on batches of its own; the spread of their scores is the judge's uncertainty."""
    head: Annotated[int, Field(ge=1, le=8192)] = 64
    """Inner width of the scoring head."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.training.batch_size % self.members:
            raise FieldError(
                "training.batch_size",
                f"{self.training.batch_size} sets must be divisible by members ({self.members}); change one",
            )
        return self


JudgeSpec = Annotated[RegressionJudgeSpec | Qwen3VLJudgeSpec | OpenAIJudgeSpec, Field(discriminator="kind")]
"""The judge, by kind."""
