"""RobotWorldBench: how many video-instruction pairs, of which origins, and what spoils them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.reward.spec import LabellerKind
from roboalign.spec.base import FieldError, Fraction, Positive, Seed, Spec, items

DegradationKind = Literal[
    "shuffle",
    "premature_end",
    "freeze",
    "reversal",
    "splice",
    "flicker",
    "blur",
    "noise",
    "swapped_instruction",
]
"""Rule-based degradations. Shuffling, an early end and flicker are the paper's; the others are our choice."""


class DegradationSpec(Spec):
    """One way to spoil a recorded episode."""

    kind: DegradationKind
    """What is done; see roboalign/bench/degradations.py."""
    mildest: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Least severity drawn."""
    worst: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Greatest severity drawn."""
    lowers: Annotated[dict[LabellerKind, Fraction], Field(min_length=1)]
    """The dimensions it may lower, by labeller, and the share of full marks each loses at severity 1. Where frames are
    rearranged and the states are known, the rubric of the rearranged states gives the exact loss instead."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.mildest > self.worst:
            raise FieldError("mildest", f"mildest is {self.mildest:g}, above worst {self.worst:g}; lower it")
        return self


class OriginsSpec(Spec):
    """Shares of the pairs by origin; they need not add up to 1. A source without episodes of one origin gives none."""

    real: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Recorded successes of experts (every recording, where nobody knows): full marks by construction (paper)."""
    policy: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Recorded episodes of noisy, wrong-goal and random policies. Our choice."""
    degraded: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Recorded episodes, spoilt (paper)."""
    generated: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Rollouts of world models (paper)."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.real + self.policy + self.degraded + self.generated == 0:
            raise FieldError("real", "every share is 0; raise at least one")
        return self


class SplitsSpec(Spec):
    """Shares of the pairs by split; the split of a pair is that of its episode."""

    train: Positive = 0.65
    """Pairs that fit judge and student."""
    validation: Positive = 0.1
    """Pairs that pick thresholds."""
    test: Positive = 0.25
    """Pairs that judge and student are measured on."""


def _default_losses() -> dict[LabellerKind, float]:
    return {
        "instruction_following": 0.6,
        "manipulation": 0.8,
        "action_outcome": 1.0,
        "temporal": 0.4,
        "contact": 0.6,
        "physics": 0.6,
    }


class GeneratedSpec(Spec):
    """Rollouts of the world models, and the rule that labels them.

    Their states are unknown, so their labels are a rule and no measurement: the rubric's scores of the true future
    of the same actions, each lowered by a share of the distance from that future. The distance is the mean squared
    error over that of repeating the first frame, at most 1. The provenance `distance_rule` marks these pairs.
    """

    models: Annotated[tuple[Literal["early", "final"], ...], items(maximum=2)] = ("early", "final")
    """The world model after a part of its training, and after all of it."""
    frames: Annotated[int, Field(ge=1, le=1024)] = 15
    """Predicted frames, after the first one, which is recorded."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Sampling temperature."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rollouts made at once; changes the speed, not the result."""
    floor: Positive = 5e-5
    """Squared error added below the ratio: a scene that does not move gives no infinite distance. Our choice."""
    lowers: dict[LabellerKind, Fraction] = Field(default_factory=_default_losses)
    """The share of full marks that each dimension loses at distance 1. Our choice."""


REARRANGING = {
    "shuffle": {
        "instruction_following": 0.3, "manipulation": 0.3, "action_outcome": 0.7, "temporal": 1.0, "contact": 0.5,
        "physics": 0.6,
    },
    "premature_end": {"instruction_following": 0.6, "manipulation": 1.0, "action_outcome": 0.6},
    "freeze": {"action_outcome": 0.6, "temporal": 0.6, "physics": 0.2},
    "reversal": {"instruction_following": 0.6, "manipulation": 1.0, "action_outcome": 0.9},
    "splice": {
        "instruction_following": 0.6, "manipulation": 1.0, "action_outcome": 0.8, "temporal": 0.5, "contact": 0.3,
        "physics": 0.5,
    },
}  # fmt: skip
"""Declared losses of the degradations that rearrange frames; our choice."""

ALTERING = {
    "flicker": {"temporal": 0.9, "physics": 0.3},
    "blur": {"temporal": 0.3, "contact": 0.5, "physics": 0.5},
    "noise": {"temporal": 0.6, "contact": 0.2, "physics": 0.4},
}
"""Declared losses of the degradations that alter pixels; our choice."""


def _default_degradations() -> tuple[DegradationSpec, ...]:
    graded = [DegradationSpec.model_validate({"kind": k, "lowers": v}) for k, v in (REARRANGING | ALTERING).items()]
    losses = {"instruction_following": 0.8, "manipulation": 0.8}
    swapped = {"kind": "swapped_instruction", "mildest": 1.0, "lowers": losses}
    return (*graded, DegradationSpec.model_validate(swapped))


class BenchSpec(Spec):
    """Video-instruction pairs with a score vector each."""

    pairs: Annotated[int, Field(ge=1, le=10_000_000)] = 1200
    """Pairs over all splits (10,000: paper)."""
    origins: OriginsSpec = OriginsSpec()
    """Balance over origins, within each source and split."""
    splits: SplitsSpec = SplitsSpec()
    """Balance over splits."""
    shortest: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Least frames of a clip; shorter episodes are left out."""
    longest: Annotated[int, Field(ge=2, le=10_000)] = 32
    """Most frames of a clip."""
    whole: Fraction = 0.5
    """Share of the clips that begin at the first frame of the episode; the others begin anywhere."""
    spoilt_successes: Fraction = 0.7
    """Share of the degraded clips that are made from successes; the others from failing policies."""
    degradations: Annotated[tuple[DegradationSpec, ...], items()] = Field(default_factory=_default_degradations)
    """The degradations, equally often."""
    held_out: Annotated[tuple[DegradationKind, ...], items(0)] = ("splice", "noise")
    """Degradations that only the test split has: does a judge see quality, or the degradations it was taught?"""
    generated: GeneratedSpec = GeneratedSpec()
    """World-model rollouts."""
    seed: Seed = 0
    """Seed of all draws."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kinds = [degradation.kind for degradation in self.degradations]
        for index, kind in enumerate(kinds):
            if kind in kinds[:index]:
                raise FieldError(f"degradations.{index}.kind", f"two degradations are of kind {kind}; drop one")
        for index, kind in enumerate(self.held_out):
            if kind not in kinds:
                raise FieldError(f"held_out.{index}", f"degradations has no {kind}; add it there or remove it here")
        if self.origins.degraded > 0 and set(kinds) == set(self.held_out):
            raise FieldError("held_out", "every degradation is held out, so training would have none; remove one")
        if self.shortest > self.longest:
            raise FieldError("shortest", f"shortest is {self.shortest}, above longest {self.longest}; lower it")
        return self
