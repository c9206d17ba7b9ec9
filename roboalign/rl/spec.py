"""Alignment: GRPO of the world model on a reward of its own rollouts, the student distilled online."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from roboalign.reward.spec import DistilledSignal, RewardSignal
from roboalign.spec.base import FieldError, Fraction, Policy, Positive, Seed, Spec, items
from roboalign.spec.training import TrainingSpec


class DistillationSpec(Spec):
    """Online distillation (paper): the teacher scores fresh rollouts, the student learns from them, against hacking."""

    every: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """Policy updates between two rounds: K in the paper, which does not give it (our choice)."""
    rollouts: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Rollouts of one round, spread over the groups of the latest update; at most prompts times group (our choice)."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Student updates of one round (our choice)."""
    batch: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Clips of one student update (our choice)."""
    bench_share: Fraction = 0.5
    """Share of a batch that comes from the bench, so that the student keeps what it knew (our choice)."""
    bench_clips: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Clips of the bench's train split that take part, scored by the teacher once, at the start (our choice)."""
    capacity: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Rollouts kept; newer ones replace the oldest (our choice)."""
    learning_rate: Positive = 1e-4
    """AdamW's learning rate for the student, on the policy's schedule (our choice)."""


class MeasureSpec(Spec):
    """How the model before and after alignment is compared: held-out test episodes, the same seeds for both."""

    prompts: Annotated[int, Field(ge=2, le=100_000)] = 32
    """Prompts, spread evenly over the test episodes' segments."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 32
    """Prompts rolled out at once; changes the speed, not the result."""
    seed: Seed = 1
    """Seed of the sampling."""


class RLSpec(Spec):
    """GRPO (paper): groups of rollouts of one prompt, rewarded, normalised within the group, clipped, held by KL."""

    reward: RewardSignal = DistilledSignal(kind="distilled")
    """What is maximised."""
    group: Annotated[int, Field(ge=2, le=1024)] = 8
    """G, rollouts of one prompt; the advantage needs at least two (16: RLVR-World; 8: our choice)."""
    horizon: Annotated[int, Field(ge=1, le=1024)] = 8
    """Predicted frames of a rollout (7: RLVR-World; 8, the world model's segment: our choice)."""
    stride: Annotated[int, Field(ge=1, le=1024)] = 4
    """Frames between the context frames of two prompts of an episode (our choice)."""
    policies: Annotated[tuple[Policy, ...], items()] = ("expert", "noisy_expert", "unknown")
    """Whose training episodes give prompts: demonstrations, as in the paper's data (our choice)."""
    temperature: Positive = 1.0
    """Temperature of the rollouts; the likelihoods are of the same distribution (1: RLVR-World)."""
    least_spread: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Least standard deviation of the rewards of a group that its advantages are divided by, in units of the reward; 0,
    as in GRPO, also turns the smallest differences into full advantages (above 0: our choice)."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """eps, the clipping of the likelihood ratio (0.2: RLVR-World)."""
    kl: Annotated[float, Field(ge=0, le=100)] = 0.02
    """beta, the weight of the KL divergence to the supervised model, low-variance estimator (0.001: RLVR-World)."""
    epochs: Annotated[int, Field(ge=1, le=64)] = 1
    """Updates on the same rollouts; the ratio differs from 1 only from the second on (our choice)."""
    distillation: DistillationSpec | None = DistillationSpec()
    """Online distillation; null keeps the student as it is."""
    training: TrainingSpec
    """Optimisation; `batch` counts prompts a step (128 at lr 5e-5: RLVR-World)."""
    measure: MeasureSpec = MeasureSpec()
    """Before and after."""

    @field_validator("distillation")
    @classmethod
    def _distils_what_is_used(
        cls, distillation: DistillationSpec | None, info: ValidationInfo
    ) -> DistillationSpec | None:
        reward = info.data.get("reward")
        if distillation is not None and reward is not None and not isinstance(reward, DistilledSignal):
            raise ValueError(f"the reward {reward.kind} does not use the student; set distillation to null")
        return distillation

    @field_validator("training")
    @classmethod
    def _enough_rollouts(cls, training: TrainingSpec, info: ValidationInfo) -> TrainingSpec:
        distillation, group = info.data.get("distillation"), info.data.get("group")
        if distillation is not None and group is not None and distillation.rollouts > training.batch * group:
            raise FieldError(
                "batch",
                f"{training.batch} prompts in groups of {group} are fewer than the {distillation.rollouts} rollouts of "
                "a distillation round; raise batch, or lower distillation.rollouts",
            )
        return training
