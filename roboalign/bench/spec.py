"""RobotWorldBench: how many video-instruction pairs, of which origins, and what spoils them."""

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
"""Rule-based degradations. Shuffling, an early end and flicker are the paper's; the others are our choice.

Removing and teleporting the object need its recorded keypoints: they are never done to clips without (real robots).
Swapped actions leave the clip as it is: see BenchSpec.hidden_labels."""


class DegradationSpec(Spec):
    """One way to spoil a recorded episode."""

    kind: DegradationKind
    """What is done; see roboalign/bench/degradations.py."""
    mildest: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Least severity drawn."""
    worst: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Greatest severity drawn."""
    lowers: Annotated[dict[LabellerKind, Fraction], Field(min_length=1)]
    """The dimensions that it lowers, by labeller, and the share of the maximum score that each loses at severity 1. If
    the states that the degraded clip shows are known, the rubric over them gives the exact loss instead."""
    may_lower: dict[LabellerKind, Fraction] = Field(default_factory=dict)
    """The dimensions that it lowers in some sources and not in others by the rubric, and the mean share of the maximum
    score that each may lose. Without states they lose nothing."""
    tolerance: Fraction = 0.03
    """Share of the maximum score by which any other dimension may fall on average by the rubric; the data card says
    whether it does. Our choice."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.mildest > self.worst:
            raise FieldError("mildest", f"mildest is {self.mildest:g}, above worst {self.worst:g}; lower it")
        for kind in self.may_lower:
            if kind in self.lowers:
                raise FieldError(f"may_lower.{kind}", f"{kind} is in lowers too; keep one of the two")
        return self


class OriginsSpec(Spec):
    """Shares of the pairs by origin; they need not add up to 1. A source without episodes of one origin gives none."""

    real: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Recorded successes of experts, or every recording of an unknown policy: the maximum score (paper)."""
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
    """Rollouts of the world models, and how they are labelled.

    Where a state probe sees what they show, the rubric scores that (provenance `rubric_probed`). Elsewhere their labels
    are a rule and no measurement: the rubric's scores of the true future of the same actions, each lowered by a share
    of the distance from that future (`distance_rule`). The distance is the mean squared error over that of repeating
    the first frame, at most 1.
    """

    models: Annotated[tuple[Literal["early", "final"], ...], items(maximum=2)] = ("early", "final")
    """The world model after a part of its training, and after all of it."""
    frames: Annotated[int, Field(ge=1, le=1024)] = 15
    """Predicted frames, after the first one, which is recorded."""
    decoding: PolicyDecodingSpec = KvWindowSpec()
    """How they are rolled out: by default within the sequence length that the world model was trained on."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Sampling temperature."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rollouts made at once; changes the speed, not the result."""
    probe_quantile: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """A difference of scores counts as none up to this quantile of those that the probe's own errors make on true
    clips. Our choice."""
    trust: Fraction = 0.5
    """Share of the variance of the places of gripper and object, within a task, that the probe has to see in a source's
    true clips to be asked about its generated ones; below, distances label these. Our choice."""
    blind: Fraction = 0.25
    """Share of the maximum score: a dimension in which the probe reports a larger difference between equal clips keeps
    the label of the distance. Our choice."""
    looks: Annotated[tuple[LabellerKind, ...], items(0)] = ("temporal", "contact", "physics")
    """Dimensions that depend on looks too, of which the probe, who sees places, knows nothing: bodies that melt. Here
    the lower one of its label and the distance's counts. Our choice."""
    floor: Positive = 5e-5
    """Squared error added below the ratio: a scene that does not move gives no infinite distance. Our choice."""
    lowers: dict[LabellerKind, Fraction] = Field(default_factory=_default_losses)
    """The share of the maximum score that each dimension loses at distance 1. Our choice."""


class GroupsSpec(Spec):
    """Groups of rollouts of one prompt: what a policy-gradient method compares, and best-of-N chooses from.

    The rollouts of a group take the `models` in turn. Labels compare what the state probe sees in a rollout with what
    it sees in the true future of the same actions.
    """

    split: Split
    """Whose episodes give the prompts."""
    prompts: Annotated[int, Field(ge=1, le=1_000_000)]
    """Number of groups, spread evenly over the sources, and within a source over its episodes."""
    size: Annotated[int, Field(ge=2, le=1024)]
    """G, rollouts of a group."""
    greedy: Annotated[int, Field(ge=0, le=16)] = 0
    """How many of them are greedy: one for each model at most, since a model has one greedy rollout."""
    frames: Annotated[int, Field(ge=1, le=1024)]
    """Predicted frames."""
    decoding: PolicyDecodingSpec = ArSpec()
    """How they are rolled out."""
    models: Annotated[tuple[Literal["early", "final"], ...], items(maximum=2)] = ("final",)
    """The world models that make them. Rollouts of the aligned model join in online distillation."""

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
    """Balance over sources and total scores; that over origins and splits has sections of its own."""

    sources: Literal["equal", "episodes"] = "equal"
    """Each source has the same share of the pairs, or a share in proportion to its episodes."""
    strata: Annotated[int, Field(ge=1, le=20)] = 5
    """Parts of equal width of the range of the total score that are to be equally full, as far as clips can be had."""
    candidates: Annotated[int, Field(ge=1, le=20)] = 3
    """Clips drawn for each one of a failing policy or a degradation that is taken; 1 takes them as they come. The
    labels of generated clips are only known once they are made, so they are not chosen."""


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
"""Declared losses of the degradations that rearrange frames; our choice."""

MOVING = {
    "object_removed": {
        "instruction_following": 0.4, "manipulation": 0.6, "action_outcome": 0.8, "temporal": 0.4, "physics": 0.9,
    },
    "object_teleported": {
        "instruction_following": 0.4, "manipulation": 0.8, "action_outcome": 0.8, "temporal": 0.3, "contact": 0.4,
        "physics": 0.3,
    },
}  # fmt: skip
"""Declared losses of the degradations that take the object away or elsewhere; our choice."""

ALTERING = {
    "flicker": {"temporal": 0.9, "physics": 0.3},
    "blur": {"temporal": 0.3, "contact": 0.5, "physics": 0.5},
    "noise": {"temporal": 0.6, "contact": 0.2, "physics": 0.4},
}
"""Declared losses of the degradations that alter pixels; our choice."""


def _default_degradations() -> tuple[DegradationSpec, ...]:
    graded = REARRANGING | MOVING | ALTERING
    # After a freeze the object goes on with a jump, which only some robots' own speeds exceed; in frames out of order,
    # or skipped, it moves untouched only where the robot had left it by then.
    sometimes = {"freeze": {"physics": 0.15, "contact": 0.15}, "shuffle": {"contact": 0.15}}
    swapped = {
        "swapped_instruction": {"instruction_following": 0.8, "manipulation": 0.8},
        "swapped_actions": {"action_outcome": 0.9},
    }
    return (
        *(
            DegradationSpec.model_validate(
                {"kind": k, "lowers": v, "may_lower": sometimes.get(k, {}), "mildest": 0.5 if k == "delay" else 0.3}
            )
            for k, v in graded.items()
        ),
        *(DegradationSpec.model_validate({"kind": k, "mildest": 1.0, "lowers": v}) for k, v in swapped.items()),
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
    """What becomes of sources without states (real robots). `full_marks`: recordings have the maximum score, as in the
    paper, and degradations lower it by what they declare; `skip`: they are left out; `annotations`: only those of their
    pairs remain that `annotations` label."""
    annotations: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], items(0)] = ()
    """JSONL files of labels by people or vision-language models (see roboalign/bench/annotations.py): paths, best under
    annotations/, where DVC sees them change, or fsspec URIs."""
    annotated: Literal["unlabelled", "all"] = "unlabelled"
    """The pairs whose label annotations replace: those without recorded or probed states, or all that have one."""
    shortest: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Least frames of a clip; shorter episodes are left out."""
    longest: Annotated[int, Field(ge=2, le=10_000)] = 32
    """Most frames of a clip."""
    whole: Fraction = 0.5
    """Share of the clips that begin at the first frame of the episode; the others begin anywhere."""
    spoilt_successes: Fraction = 0.7
    """Share of the degraded clips that are made from successes; the others from failing policies."""
    degradations: Annotated[tuple[DegradationSpec, ...], items()] = Field(default_factory=_default_degradations)
    """The degradations, equally often as far as they apply: instructions are swapped where there are several, objects
    moved where keypoints are recorded."""
    hidden_labels: Literal["apart", "train"] = "apart"
    """Pairs whose label video and instruction cannot show (swapped actions, which a judge does not see): kept apart
    from the training and the tests of judges, or treated as the others."""
    held_out: Annotated[tuple[DegradationKind, ...], items(0)] = ("splice", "noise")
    """Degradations that only the test split has: does a judge see quality, or the degradations it was taught?"""
    held_out_sources: Annotated[tuple[Name, ...], items(0)] = ()
    """Sources that only the test split has: does a judge carry over to a robot that it was not taught?"""
    generated: GeneratedSpec = GeneratedSpec()
    """World-model rollouts."""
    groups: Annotated[tuple[GroupsSpec, ...], items(0)] = ()
    """Groups of rollouts, beside the `pairs`."""
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
        if self.unlabelled == "annotations" and not self.annotations:
            raise FieldError("annotations", "unlabelled is annotations, but no file of them is named; name one")
        if self.origins.degraded > 0 and set(kinds) == set(self.held_out):
            raise FieldError("held_out", "every degradation is held out, so training would have none; remove one")
        if self.shortest > self.longest:
            raise FieldError("shortest", f"shortest is {self.shortest}, above longest {self.longest}; lower it")
        return self
