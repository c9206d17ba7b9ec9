"""RobotWorldBench: the number of video-instruction pairs, their origins, degradations, splits and balance.

Defaults without a named source are our choice.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.reward.spec import LabellerKind
from roboalign.rollout.spec import ArSpec, KvWindowSpec, PolicyDecodingSpec
from roboalign.spec.base import FieldError, Fraction, Name, Positive, Seed, Spec, Split, items

DegradationKind = Literal[
    "shuffle",
    "premature_end",
    "freeze",
    "delay",
    "reversal",
    "splice",
    "flicker",
    "blur",
    "noise",
    "object_removed",
    "object_teleported",
    "swapped_instruction",
    "swapped_actions",
]
"""Rule-based degradations. `shuffle`, `premature_end` and `flicker` are from the paper.

`object_removed` and `object_teleported` need recorded keypoints, which recordings of real robots lack.
`swapped_actions` leaves video and instruction unchanged: see BenchSpec.hidden_labels."""


class DegradationSpec(Spec):
    """One degradation of recorded clips."""

    kind: DegradationKind
    """The degradation; see roboalign/bench/degradations.py."""
    min_severity: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Lower bound of the random severity."""
    max_severity: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Upper bound of the random severity."""
    lowers: Annotated[dict[LabellerKind, Fraction], Field(min_length=1)]
    """Dimensions that it lowers, by labeller: the share of the maximum score that each loses at severity 1. If the
    states that the degraded clip shows are known, the rubric over them gives the loss instead."""
    may_lower: dict[LabellerKind, Fraction] = Field(default_factory=dict)
    """Dimensions that it lowers in some sources only, by the rubric: the mean share of the maximum score that each may
    lose. Without states they lose nothing."""
    tolerance: Fraction = 0.03
    """Share of the maximum score that any other dimension may lose on average by the rubric; the data card reports
    whether it does."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min_severity > self.max_severity:
            raise FieldError(
                "min_severity",
                f"min_severity ({self.min_severity:g}) is above max_severity ({self.max_severity:g}); lower it",
            )
        for kind in self.may_lower:
            if kind in self.lowers:
                raise FieldError(f"may_lower.{kind}", f"{kind} is also in lowers; remove one of the two")
        return self


class OriginsSpec(Spec):
    """Shares of the pairs by origin, normalised to 1. A source without episodes of an origin has no pairs of it."""

    real: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Recorded successes of experts, or any recording of an unknown policy: the maximum score (paper)."""
    policy: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Recorded episodes of noisy, wrong-goal and random policies."""
    degraded: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Recorded episodes, degraded (paper)."""
    generated: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Rollouts of world models (paper)."""

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if self.real + self.policy + self.degraded + self.generated == 0:
            raise FieldError("real", "every share is 0; raise at least one")
        return self


class SplitsSpec(Spec):
    """Shares of the pairs by split, normalised to 1. The split of a pair is that of its episode."""

    train: Positive = 0.65
    """Pairs that train judge and student."""
    validation: Positive = 0.1
    """Pairs that calibrate them."""
    test: Positive = 0.25
    """Pairs that measure them."""


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
    """Rollouts of the world models, and their labels.

    If a state probe covers the source well enough, the rubric scores the states that it perceives in the clip
    (provenance `rubric_probed`). Otherwise the label is a rule, not a measurement: the rubric's scores of the true
    future of the same actions, each lowered by a share of the distance from that future (`distance_rule`). The distance
    is the mean squared error divided by that of repeating the first frame, at most 1.
    """

    models: Annotated[tuple[Literal["early", "final"], ...], items(maximum=2)] = ("early", "final")
    """World models: the checkpoint of an early training step, and the final one."""
    frames: Annotated[int, Field(ge=1, le=1024)] = 15
    """Predicted frames, after the recorded first frame."""
    decoding: PolicyDecodingSpec = KvWindowSpec()
    """Decoding; the default stays within the sequence length of the world model's training."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Sampling temperature."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rollouts generated at once; does not change the result."""
    probe_quantile: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """Quantile of the score differences that the probe's errors cause on true clips: the slack, below which a score
    difference is ignored."""
    min_explained_variance: Fraction = 0.5
    """Share of the variance of gripper and object positions within a task that the probe must explain in a source's
    true clips; below it, the source's generated clips are labelled by their distance."""
    max_slack: Fraction = 0.25
    """Largest slack, as a share of the maximum score, at which a dimension is labelled by the probe; above it, by the
    distance."""
    appearance_dimensions: Annotated[tuple[LabellerKind, ...], items(0)] = ("temporal", "contact", "physics")
    """Dimensions that also depend on appearance (bodies that melt), which the probe cannot measure: the lower of the
    probe's and the distance's score counts."""
    distance_eps: Positive = 5e-5
    """Added to the denominator of the distance, so that it is finite for scenes that do not move."""
    lowers: dict[LabellerKind, Fraction] = Field(default_factory=_default_losses)
    """Share of the maximum score that each dimension loses at distance 1."""


class GroupsSpec(Spec):
    """Groups of rollouts of one prompt, as policy-gradient methods compare and best-of-N selects from.

    The rollouts of a group alternate between the `models`. They are labelled by comparing the states that the probe
    perceives in the rollout and in the true future of the same actions.
    """

    split: Split
    """Split of the episodes that give the prompts."""
    prompts: Annotated[int, Field(ge=1, le=1_000_000)]
    """Number of groups, spread evenly over the sources, and within a source over its episodes."""
    size: Annotated[int, Field(ge=2, le=1024)]
    """G, rollouts of a group."""
    greedy: Annotated[int, Field(ge=0, le=16)] = 0
    """Number of greedy rollouts of a group, at most one for each model, since a model has only one greedy rollout."""
    frames: Annotated[int, Field(ge=1, le=1024)]
    """Predicted frames."""
    decoding: PolicyDecodingSpec = ArSpec()
    """Decoding."""
    models: Annotated[tuple[Literal["early", "final"], ...], items(maximum=2)] = ("final",)
    """World models of the rollouts. Online distillation adds rollouts of the aligned model."""

    @model_validator(mode="after")
    def _distinct_rollouts(self) -> Self:
        if self.greedy > len(self.models):
            raise FieldError(
                "greedy",
                f"{self.greedy} greedy rollouts of {len(self.models)} models would repeat each other; lower it to "
                f"{len(self.models)}",
            )
        return self


class BalanceSpec(Spec):
    """Balance over sources and total scores; origins and splits have sections of their own."""

    sources: Literal["equal", "episodes"] = "equal"
    """Each source has the same share of the pairs, or a share in proportion to its episodes."""
    score_bins: Annotated[int, Field(ge=1, le=20)] = 5
    """Equal-width bins of the total score, filled as evenly as the available clips allow."""
    candidates: Annotated[int, Field(ge=1, le=20)] = 3
    """Candidates for each clip of a failing policy or a degradation, among which the score bins choose; 1 disables the
    choice. Generated clips are not chosen: their labels are only known after the rollout."""


REARRANGING = {
    "shuffle": {
        "instruction_following": 0.3, "manipulation": 0.3, "action_outcome": 0.7, "temporal": 1.0, "physics": 0.6,
    },
    "premature_end": {"instruction_following": 0.6, "manipulation": 1.0, "action_outcome": 0.6},
    "freeze": {"instruction_following": 0.1, "manipulation": 0.1, "action_outcome": 0.6, "temporal": 0.6},
    "delay": {"instruction_following": 0.6, "manipulation": 1.0, "action_outcome": 1.0},
    "reversal": {"instruction_following": 0.6, "manipulation": 1.0, "action_outcome": 0.9, "temporal": 0.2},
    "splice": {
        "instruction_following": 0.6, "manipulation": 1.0, "action_outcome": 0.8, "temporal": 0.5, "contact": 0.3,
        "physics": 0.5,
    },
}  # fmt: skip
"""Declared losses of the degradations that rearrange frames."""

MOVING = {
    "object_removed": {
        "instruction_following": 0.4, "manipulation": 0.6, "action_outcome": 0.8, "temporal": 0.4, "physics": 0.9,
    },
    "object_teleported": {
        "instruction_following": 0.4, "manipulation": 0.8, "action_outcome": 0.8, "temporal": 0.3, "contact": 0.4,
        "physics": 0.3,
    },
}  # fmt: skip
"""Declared losses of the degradations that move the object."""

ALTERING = {
    "flicker": {"temporal": 0.9, "physics": 0.3},
    "blur": {"temporal": 0.3, "contact": 0.5, "physics": 0.5},
    "noise": {"temporal": 0.6, "contact": 0.2, "physics": 0.4},
}
"""Declared losses of the degradations that alter pixels."""


def _default_degradations() -> tuple[DegradationSpec, ...]:
    graded = REARRANGING | MOVING | ALTERING
    # After a freeze the object jumps, which is a fault only in sources whose robots never move it that fast. In
    # shuffled frames it moves untouched only if the robot had already released it.
    possible = {"freeze": {"physics": 0.15, "contact": 0.15}, "shuffle": {"contact": 0.15}}
    swapped = {
        "swapped_instruction": {"instruction_following": 0.8, "manipulation": 0.8},
        "swapped_actions": {"action_outcome": 0.9},
    }
    return (
        *(
            DegradationSpec.model_validate(
                {
                    "kind": kind,
                    "lowers": losses,
                    "may_lower": possible.get(kind, {}),
                    "min_severity": 0.5 if kind == "delay" else 0.3,
                }
            )
            for kind, losses in graded.items()
        ),
        *(
            DegradationSpec.model_validate({"kind": kind, "min_severity": 1.0, "lowers": losses})
            for kind, losses in swapped.items()
        ),
    )


class BenchSpec(Spec):
    """Video-instruction pairs with a score vector each."""

    pairs: Annotated[int, Field(ge=1, le=10_000_000)] = 1200
    """Pairs over all splits (10,000: paper)."""
    origins: OriginsSpec = OriginsSpec()
    """Balance over origins, within each source and split."""
    splits: SplitsSpec = SplitsSpec()
    """Balance over splits."""
    balance: BalanceSpec = BalanceSpec()
    """Balance over sources and scores."""
    unlabelled: Literal["full_marks", "skip", "annotations"] = "full_marks"
    """Treatment of sources without states (real robots). `full_marks`: recordings have the maximum score, as in the
    paper, and degradations lower it as declared. `skip`: the sources are left out. `annotations`: only pairs that
    `annotations` label are kept."""
    annotations: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], items(0)] = ()
    """JSONL files of labels by people or vision-language models (see roboalign/bench/annotations.py): fsspec URIs, or
    paths; DVC tracks changes under annotations/."""
    annotated: Literal["unlabelled", "all"] = "unlabelled"
    """The pairs whose label annotations replace: those without recorded or probed states, or all annotated ones."""
    min_frames: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Fewest frames of a clip; shorter episodes are left out."""
    max_frames: Annotated[int, Field(ge=2, le=10_000)] = 32
    """Most frames of a clip."""
    full_length_share: Fraction = 0.5
    """Share of the recorded clips that are as long as possible, and of the generated clips that begin at the first
    frame; the others have a random length or start."""
    degraded_success_share: Fraction = 0.7
    """Share of the degraded clips that are made from successes; the others from failing policies."""
    degradations: Annotated[tuple[DegradationSpec, ...], items()] = Field(default_factory=_default_degradations)
    """The degradations, each equally often if it applies: instructions are swapped if the tasks differ in theirs,
    objects moved if keypoints are recorded."""
    hidden_labels: Literal["apart", "train"] = "apart"
    """Treatment of pairs whose label video and instruction cannot show (swapped actions): `apart` keeps them out of the
    training and the tests of judges, `train` treats them like all others, for judges that read actions."""
    held_out: Annotated[tuple[DegradationKind, ...], items(0)] = ("splice", "noise")
    """Degradations of the test split only: they measure whether judges generalise to new degradations."""
    held_out_sources: Annotated[tuple[Name, ...], items(0)] = ()
    """Sources of the test split only: they measure whether judges generalise to another robot."""
    generated: GeneratedSpec = GeneratedSpec()
    """World-model rollouts."""
    groups: Annotated[tuple[GroupsSpec, ...], items(0)] = ()
    """Groups of rollouts, in addition to `pairs`."""
    seed: Seed = 0
    """Seed of all random choices."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kinds = [degradation.kind for degradation in self.degradations]
        for index, kind in enumerate(kinds):
            if kind in kinds[:index]:
                raise FieldError(f"degradations.{index}.kind", f"two degradations are of kind {kind}; remove one")
        for index, kind in enumerate(self.held_out):
            if kind not in kinds:
                raise FieldError(f"held_out.{index}", f"degradations has no {kind}; add it there or remove it here")
        if self.unlabelled == "annotations" and not self.annotations:
            raise FieldError("annotations", "unlabelled is annotations, but the list of files is empty; add one")
        if self.origins.degraded > 0 and set(kinds) == set(self.held_out):
            raise FieldError("held_out", "every degradation is held out, so training would have none; remove one")
        if self.min_frames > self.max_frames:
            raise FieldError(
                "min_frames", f"min_frames ({self.min_frames}) is above max_frames ({self.max_frames}); lower it"
            )
        return self
