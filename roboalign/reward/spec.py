"""The reward: its dimensions as data, the rubric that labels each of them, and the signals that alignment can maximise.

A dimension is dropped or added in YAML; scoring heads, tables and plots follow the list.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.spec.base import FieldError, Fraction, Name, Positive, Spec, items
from roboalign.spec.training import TrainingSpec
from roboalign.spec.weights import CheckpointInitSpec, require_weights

LabellerKind = Literal[
    "instruction_following", "manipulation", "action_outcome", "temporal", "contact", "physics", "efficiency"
]
"""What the rubric can measure on a state trajectory. Degradations declare what they lower in these names."""


class InstructionFollowingSpec(Spec):
    """Three equal parts: the gripper comes to the object; the object's best and its last approach to the goal."""

    kind: Literal["instruction_following"]
    reach_m: Positive = 0.06
    """Distance of gripper and object, in metres, that counts as having reached it; contact counts too. Our choice."""


class ManipulationSpec(Spec):
    """Progress of the object to the goal at the last frame, and the simulator's own verdict of success."""

    kind: Literal["manipulation"]
    success_share: Fraction = 0.5
    """Share of the maximum that only success earns; the rest is earned in proportion to progress. Our choice."""


class ActionOutcomeSpec(Spec):
    """How closely gripper and object follow the true outcome of the same actions."""

    kind: Literal["action_outcome"]
    tolerance_m: Positive = 0.01
    """Mean deviation in metres that costs nothing. Our choice."""
    floor_m: Positive = 0.05
    """Least extent of a true path in metres that deviations are measured against. Our choice."""
    extent_share: Annotated[float, Field(gt=0, le=10)] = 0.5
    """Mean deviation, as a share of the true path's extent, that costs everything; standing still does. Our choice."""


class TemporalSpec(Spec):
    """No jumps, detours or stalls: steps within the source's speed, motion where the true outcome moves."""

    kind: Literal["temporal"]
    jump_cost: Fraction = 0.25
    """Share of the maximum that one step of twice the speed limit or more costs. Our choice."""
    stall_cost: Fraction = 0.6
    """Share of the maximum lost where the picture stands still in every frame that should move. Our choice."""
    detour_cost: Fraction = 1.0
    """Share of the maximum lost on paths three times as long as the true ones, as frames out of order make. Our
    choice."""


class ContactSpec(Spec):
    """Objects move only when touched or falling, and forces stay within what experts use."""

    kind: Literal["contact"]
    force_share: Fraction = 0.3
    """Share of the maximum that excessive force can cost. Our choice."""


class PhysicsSpec(Spec):
    """Bodies do not enter each other, and objects neither jump nor vanish."""

    kind: Literal["physics"]
    penetration_share: Fraction = 0.5
    """Share of the maximum lost at twice the source's penetration limit; jumping objects cost the rest. Our choice."""
    jump_cost: Fraction = 0.25
    """Share of the maximum that one jump of the object costs, up to what penetration leaves. Our choice."""
    absent_cost: Fraction = 1.0
    """Share of the maximum lost on an object that is gone: half of it at once, the rest in proportion to the frames
    that do not show it. Our choice."""


class EfficiencySpec(Spec):
    """Short paths: the distance that the task needs, over the gripper's path. No dimension of the paper."""

    kind: Literal["efficiency"]
    slack: Annotated[float, Field(ge=1, le=100)] = 3.0
    """Path length, as a multiple of the needed distance, that still earns the maximum score. Our choice."""


Labeller = Annotated[
    InstructionFollowingSpec
    | ManipulationSpec
    | ActionOutcomeSpec
    | TemporalSpec
    | ContactSpec
    | PhysicsSpec
    | EfficiencySpec,
    Field(discriminator="kind"),
]
"""How the rubric labels a dimension from the state trajectory."""


class DimensionSpec(Spec):
    """One dimension of the reward."""

    max_score: Annotated[float, Field(gt=0, le=100)]
    """Maximum score; scores run from 0 to it."""
    weight: Annotated[float, Field(ge=0, le=100)] = 1.0
    """w_k of the alignment reward and of the regression losses. The paper does not give it; 1 is our choice."""
    group: Name
    """The heading it stands under: `task_alignment` or `physical_realism` in the paper."""
    rubric: Annotated[str, Field(min_length=1, max_length=2000)]
    """What earns the maximum score and parts of it, for people, for a vision-language judge and for the report."""
    labeller: Labeller
    """The measurement on the simulator's state that gives the label."""


class CalibrationSpec(Spec):
    """How the limits of a source (speed, penetration, force) are read off its recorded training episodes."""

    quantile: Annotated[float, Field(ge=0.5, le=1)] = 0.98
    """Quantile over successful expert episodes of each episode's largest penetration and force, and of the untouched
    share of object motion. Meta-World's good demonstrations penetrate by up to 7.6 mm, so it is taken by source."""
    margin: Annotated[float, Field(ge=1, le=10)] = 1.25
    """Factor on the measured quantile, for what a limited sample has not shown. Our choice."""
    speed_floor_m: Positive = 0.01
    """Least speed limit in metres a frame. Our choice."""
    penetration_floor_m: Positive = 0.002
    """Least penetration limit in metres. Our choice."""
    force_floor_n: Positive = 10.0
    """Least force limit in newtons. Our choice."""
    near_floor_m: Positive = 0.03
    """Least distance of gripper and object, in metres, within which a touch between two frames is believed."""
    path_floor_m: Positive = 0.02
    """Metres added to a path before shares of its length are taken: jitter is no motion. Our choice."""


class RewardSpec(Spec):
    """The dimensions that videos are scored by."""

    dimensions: Annotated[dict[Name, DimensionSpec], Field(min_length=1, max_length=32)]
    """The dimensions by name, in the order of every score vector. The paper has six: 3 + 2 + 1 + 1 + 1 + 2 = 10
    points."""
    calibration: CalibrationSpec = CalibrationSpec()
    """The rubric's limits by source."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if not any(dimension.weight > 0 for dimension in self.dimensions.values()):
            first = next(iter(self.dimensions))
            raise FieldError(f"dimensions.{first}.weight", "every dimension has weight 0; raise at least one")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(self.dimensions)

    @property
    def max_scores(self) -> tuple[float, ...]:
        """Maximum scores in order."""
        return tuple(dimension.max_score for dimension in self.dimensions.values())

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights w_k in order."""
        return tuple(dimension.weight for dimension in self.dimensions.values())

    @property
    def max_total(self) -> float:
        """Maximum total: the sum over all dimensions; 10 in the paper."""
        return sum(self.max_scores)


ScoreVariant = Literal["absolute", "faithful"]
"""`absolute`: the paper's scores of what a clip shows. `faithful`: how far that agrees with what the same actions truly
led to, in every dimension; a hallucinated success raises the first and lowers the second."""


class DistilledSignal(Spec):
    """The student's scores, weighted by the dimensions' weights: the paper's reward, R = sum_k w_k g_k."""

    kind: Literal["distilled"]
    variant: ScoreVariant = "faithful"
    """Which scores are maximised (paper: absolute)."""


class JudgeSignal(Spec):
    """The judge's own scores, without distillation."""

    kind: Literal["judge"]
    variant: ScoreVariant = "faithful"
    """Which scores are maximised."""


class GoldSignal(Spec):
    """The gold scores, through the gold state probe and the true future: an upper bound, for sources with states."""

    kind: Literal["gold"]
    variant: ScoreVariant = "faithful"
    """Which scores are maximised."""


class MseSignal(Spec):
    """Minus the mean squared error against the true future."""

    kind: Literal["mse"]


class L1Signal(Spec):
    """Minus the mean absolute error against the true future; half of RLVR-World's reward."""

    kind: Literal["l1"]


class SsimSignal(Spec):
    """The structural similarity with the true future."""

    kind: Literal["ssim"]


class PerceptualSignal(Spec):
    """Minus the perceptual distance from the true future; the other half of RLVR-World's reward."""

    kind: Literal["perceptual"]
    frames: Annotated[int, Field(ge=2, le=1024)] | None = None
    """Predicted frames that are compared, evenly spaced, the first and the last among them; in training those between
    are shifted at random from update to update. null compares all, which takes most of an update's time."""


PlainSignal = Annotated[
    DistilledSignal | JudgeSignal | GoldSignal | MseSignal | L1Signal | SsimSignal | PerceptualSignal,
    Field(discriminator="kind"),
]
"""One measure of a rollout."""


class WeightedSignal(Spec):
    """One term of a sum."""

    weight: Annotated[float, Field(gt=0, le=10_000)]
    """Factor of the signal, in its own units."""
    signal: PlainSignal
    """The signal."""


class SumSignal(Spec):
    """A weighted sum of signals."""

    kind: Literal["sum"]
    terms: Annotated[tuple[WeightedSignal, ...], items()]
    """The terms."""


RewardSignal = Annotated[
    DistilledSignal | JudgeSignal | GoldSignal | MseSignal | L1Signal | SsimSignal | PerceptualSignal | SumSignal,
    Field(discriminator="kind"),
]
"""What alignment maximises. The pixel kinds are the paper's low-level baselines."""


class TextSpec(Spec):
    """Reading the instruction: words of the training instructions, and a small transformer over them."""

    words: Annotated[int, Field(ge=1, le=512)] = 16
    """Longest instruction in words; the rest is cut."""
    layers: Annotated[int, Field(ge=1, le=48)] = 1
    """Transformer layers."""
    hidden_words: Fraction = 0.05
    """Share of known words that training hides, so that unknown ones do not throw the scorer off. Our choice."""


class AppearanceSpec(Spec):
    """A timm backbone over a few frames: for scenes that no state probe knows, such as real robots."""

    backbone: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=100)]
    """Name of a timm model that gives feature maps; its weights are trained from scratch."""
    level: Annotated[int, Field(ge=0, le=63)]
    """Which of its feature maps is read, from 0, the finest; a vision transformer has one for each block."""
    image_size: Annotated[tuple[int, int], items(2, 2)] | None = None
    """Height and width that the backbone is built for: vision transformers need it, convolutional networks take any."""
    frames: Annotated[int, Field(ge=2, le=256)]
    """Frames read of each clip, the first and the last among them."""
    grid: Annotated[int, Field(ge=1, le=32)] = 4
    """Cells a side that a feature map is pooled to; positions are kept, so that "at the goal" is visible."""
    channels: Annotated[int, Field(ge=1, le=4096)] = 32
    """Channels of each cell."""


Input = Literal["text", "video", "actions"]
"""What a reward model reads."""


class EncoderSpec(Spec):
    """The encoder of a reward model: a transformer over the words of the instruction and one token a frame, which holds
    the state that a probe perceives and the actions that led to it (our choice)."""

    inputs: Annotated[tuple[Input, ...], items(1, 3)] = ("text", "video", "actions")
    """What it reads. Without `actions`, a reward model cannot know what should have happened; the paper's does not."""
    frames: Annotated[int, Field(ge=2, le=1024)] = 32
    """Most frames perceived of each clip; of longer clips so many, evenly spaced, the first and the last among them."""
    width: Annotated[int, Field(ge=8, le=8192)]
    """Width of the transformer."""
    layers: Annotated[int, Field(ge=1, le=48)] = 2
    """Its layers."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Its attention heads; they divide the width."""
    dropout: Fraction = 0.1
    """Dropout in training."""
    scene_dropout: Fraction = 0.0
    """Share of the training clips whose perceived states are hidden, so that scores of unknown scenes rest on the rest:
    text, motion and `appearance`."""
    appearance: AppearanceSpec | None = None
    """A backbone on raw frames beside the perceived states; null for none."""
    text: TextSpec = TextSpec()
    """The instruction."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise FieldError("heads", f"heads is {self.heads}, which does not divide width {self.width}")
        if "video" not in self.inputs:
            raise FieldError("inputs", "a reward model scores videos; add video")
        return self


class ScoringLossSpec(Spec):
    """The loss of a reward model: a dimension-weighted Huber loss (paper), and its counterpart within groups."""

    delta: Positive = 0.5
    """Where the Huber loss on normalised scores turns from squared to linear."""
    within_group: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Weight of the loss on scores less their mean over the rollouts of one prompt: only these differences reach a
    group-normalised advantage."""
    faithful: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Weight of the faithful scores beside the absolute ones."""


class RewardModelSpec(Spec):
    """What regression judges and students have in common: what reads a clip, and how it learns scores."""

    encoder: EncoderSpec
    """What reads a clip."""
    loss: ScoringLossSpec = ScoringLossSpec()
    """The loss."""
    set_size: Annotated[int, Field(ge=2, le=1024)] = 8
    """Clips of one set, the unit of a batch: rollouts of one prompt, or as many single clips."""
    group_share: Fraction = 0.5
    """Share of the sets that are groups of rollouts; 0 if the bench has none."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Clips scored at once; changes the speed, not the scores."""
    training: TrainingSpec
    """Optimisation; `batch_size` counts sets."""
    init: CheckpointInitSpec | None = None
    """Where the initial weights come from, with their vocabulary and state probe; null starts from random ones."""

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        require_weights(self.training, self.init)
        return self
