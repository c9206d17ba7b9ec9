"""The reward: its dimensions, the rubric that labels each of them, and the signals that alignment can maximise.

Dimensions are added and removed in YAML; scoring heads, tables and plots follow. Defaults are our choice unless a
source is named.
"""

from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from roboalign.spec.base import FieldError, Fraction, Name, Positive, Spec, items
from roboalign.spec.training import TrainingSpec
from roboalign.spec.weights import CheckpointInitSpec, require_weights

LabellerKind = Literal[
    "instruction_following", "manipulation", "action_outcome", "temporal", "contact", "physics", "efficiency"
]
"""Measurements of the rubric on a state trajectory. Degradations declare by these names which scores they lower."""


class InstructionFollowingSpec(Spec):
    """The mean of three parts: the gripper's approach to the object, and the object's best and final progress to the
    goal."""

    kind: Literal["instruction_following"]
    reach_m: Positive = 0.06
    """Distance of gripper and object, in metres, within which the object counts as reached; contact counts too."""


class ManipulationSpec(Spec):
    """The object's progress to the goal at the last frame, and the simulator's success flag."""

    kind: Literal["manipulation"]
    success_share: Fraction = 0.5
    """Fraction of the maximum score that only success earns; the rest is proportional to progress."""


class ActionOutcomeSpec(Spec):
    """Deviation of gripper and object from the true outcome of the same actions."""

    kind: Literal["action_outcome"]
    tolerance_m: Positive = 0.01
    """Mean deviation in metres that costs nothing."""
    floor_m: Positive = 0.05
    """Minimum extent in metres that deviations are divided by, for short true paths."""
    extent_share: Annotated[float, Field(gt=0, le=10)] = 0.5
    """Mean deviation, as a fraction of the true path's extent, that costs the whole score, as standing still does."""


class TemporalSpec(Spec):
    """Temporal consistency: no jumps above the source's speed limits, no detours, no stalls while the true outcome
    moves."""

    kind: Literal["temporal"]
    jump_cost: Fraction = 0.25
    """Fraction of the maximum score that one step of twice the speed limit or more costs."""
    stall_cost: Fraction = 0.6
    """Fraction of the maximum score lost if the clip stands still in every frame in which the true outcome moves."""
    detour_cost: Fraction = 1.0
    """Fraction of the maximum score lost on paths three times as long as the true ones, as from shuffled frames."""


class ContactSpec(Spec):
    """Objects move only if touched or falling, and forces stay within those of experts."""

    kind: Literal["contact"]
    force_share: Fraction = 0.3
    """Fraction of the maximum score that excessive force can cost."""


class PhysicsSpec(Spec):
    """Bodies do not penetrate each other, and objects do not jump or disappear."""

    kind: Literal["physics"]
    penetration_share: Fraction = 0.5
    """Fraction of the maximum score lost at twice the source's penetration limit; jumps can cost the rest."""
    jump_cost: Fraction = 0.25
    """Fraction of the maximum score that one jump of the object costs, up to 1 - `penetration_share` in all."""
    absent_cost: Fraction = 1.0
    """Fraction of the maximum score lost if the object disappears: half of it if any frame lacks the object, the rest
    in proportion to the frames that lack it."""


class EfficiencySpec(Spec):
    """Short paths: the distance that the task needs over the gripper's path length. Not a dimension of the paper."""

    kind: Literal["efficiency"]
    slack: Annotated[float, Field(ge=1, le=100)] = 3.0
    """Path length, as a multiple of the needed distance, up to which the maximum score is earned."""


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
"""The rubric's labeller of a dimension, computed from state trajectories."""


class DimensionSpec(Spec):
    """One dimension of the reward."""

    max_score: Annotated[float, Field(gt=0, le=100)]
    """Maximum score; the minimum is 0."""
    weight: Annotated[float, Field(ge=0, le=100)] = 1.0
    """w_k of the alignment reward and of the regression losses. The paper does not give its value."""
    group: Name
    """Heading in tables: `task_alignment` or `physical_realism` in the paper."""
    rubric: Annotated[str, Field(min_length=1, max_length=2000)]
    """The scoring instructions, for human raters, vision-language judges and the report."""
    labeller: Labeller
    """The measurement on the simulator's states that gives the label."""


class CalibrationSpec(Spec):
    """How a source's limits of speed, penetration and force are derived from its recorded training episodes."""

    quantile: Annotated[float, Field(ge=0.5, le=1)] = 0.98
    """Quantile over successful expert episodes of the largest penetration, the largest force, and the fraction of
    untouched object motion. Taken for each source, because good Meta-World demonstrations penetrate by up to 7.6 mm."""
    margin: Annotated[float, Field(ge=1, le=10)] = 1.25
    """Factor on the measured quantile, because the sample is limited."""
    speed_floor_m: Positive = 0.01
    """Minimum speed limit in metres per frame."""
    penetration_floor_m: Positive = 0.002
    """Minimum penetration limit in metres."""
    force_floor_n: Positive = 10.0
    """Minimum force limit in newtons."""
    near_floor_m: Positive = 0.03
    """Minimum of the distance of gripper and object, in metres, within which a contact between two frames is
    assumed."""
    path_floor_m: Positive = 0.02
    """Metres added to a path before fractions of its length are taken, so that jitter does not count as motion."""


class RewardSpec(Spec):
    """The dimensions in which videos are scored."""

    dimensions: Annotated[dict[Name, DimensionSpec], Field(min_length=1, max_length=32)]
    """The dimensions by name, in the order of all score vectors. The paper has six: 3 + 2 + 1 + 1 + 1 + 2 = 10
    points."""
    calibration: CalibrationSpec = CalibrationSpec()
    """How the rubric's limits of each source are derived."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if not any(dimension.weight > 0 for dimension in self.dimensions.values()):
            first = next(iter(self.dimensions))
            raise FieldError(f"dimensions.{first}.weight", "every dimension has weight 0; raise at least one")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dimensions, in order."""
        return tuple(self.dimensions)

    @property
    def max_scores(self) -> tuple[float, ...]:
        """Maximum scores, in order."""
        return tuple(dimension.max_score for dimension in self.dimensions.values())

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights w_k, in order."""
        return tuple(dimension.weight for dimension in self.dimensions.values())

    @property
    def max_total(self) -> float:
        """Sum of the maximum scores; 10 in the paper."""
        return sum(self.max_scores)


ScoreVariant = Literal["absolute", "faithful"]
"""`absolute`: the paper's scores of what a clip shows. `faithful`: agreement, in each dimension, with the true outcome
of the same actions. A hallucinated success raises the first and lowers the second."""


class SignalBase(Spec):
    """Base of the measures of a rollout."""

    differentiable: ClassVar[bool] = True
    """Whether rewards have gradients to the pixels, which `first_order` needs."""


class DistilledSignal(SignalBase):
    """The weighted sum of the student's scores, R = sum_k w_k g_k: the paper's reward."""

    kind: Literal["distilled"]
    variant: ScoreVariant = "faithful"
    """The variant of the scores that are maximised (paper: absolute)."""


class JudgeSignal(SignalBase):
    """The weighted sum of the judge's scores, without distillation."""

    kind: Literal["judge"]
    variant: ScoreVariant = "faithful"
    """The variant of the scores that are maximised."""


class GoldSignal(SignalBase):
    """The weighted sum of the gold scores, from the gold state probe and the true future: an upper bound. Only for
    sources with states."""

    differentiable: ClassVar[bool] = False
    kind: Literal["gold"]
    variant: ScoreVariant = "faithful"
    """The variant of the scores that are maximised."""


class MseSignal(SignalBase):
    """Negative mean squared error against the true future."""

    kind: Literal["mse"]


class L1Signal(SignalBase):
    """Negative mean absolute error against the true future; one of the two terms of RLVR-World's reward."""

    kind: Literal["l1"]


class SsimSignal(SignalBase):
    """Structural similarity with the true future."""

    kind: Literal["ssim"]


class PerceptualSignal(SignalBase):
    """Negative perceptual distance from the true future; the other term of RLVR-World's reward."""

    kind: Literal["perceptual"]
    frames: Annotated[int, Field(ge=2, le=1024)] | None = None
    """Number of predicted frames that are compared, evenly spaced, including the first and the last. Training shifts
    those between at random in each update. null compares all, which takes most of an update's time."""


SingleSignal: TypeAlias = (
    DistilledSignal | JudgeSignal | GoldSignal | MseSignal | L1Signal | SsimSignal | PerceptualSignal
)
"""A signal that is not a sum."""

PlainSignal: TypeAlias = Annotated[SingleSignal, Field(discriminator="kind")]
"""The same, told apart by `kind`."""


class WeightedSignal(Spec):
    """One term of a sum."""

    weight: Annotated[float, Field(gt=0, le=10_000)]
    """Factor on the signal's values."""
    signal: PlainSignal
    """The signal that is weighted."""


class SumSignal(Spec):
    """A weighted sum of signals."""

    kind: Literal["sum"]
    terms: Annotated[tuple[WeightedSignal, ...], items()]
    """The weighted signals that are added."""


RewardSignal: TypeAlias = Annotated[SingleSignal | SumSignal, Field(discriminator="kind")]
"""The reward that alignment maximises. The pixel kinds are the paper's low-level baselines."""


class TextSpec(Spec):
    """The encoder of the instruction: a small transformer over words of the training instructions."""

    words: Annotated[int, Field(ge=1, le=512)] = 16
    """Maximum length of an instruction in words; longer ones are truncated."""
    layers: Annotated[int, Field(ge=1, le=48)] = 1
    """Transformer layers."""
    hidden_words: Fraction = 0.05
    """Word dropout: fraction of known words that training replaces by UNKNOWN, for robustness to unseen words."""


class AppearanceSpec(Spec):
    """A timm backbone over a few frames, for scenes that no state probe covers, such as real robots."""

    backbone: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=100)]
    """Name of a timm model with feature maps; it is trained from scratch."""
    level: Annotated[int, Field(ge=0, le=63)]
    """Number of the feature map that is used; 0 is the finest. A vision transformer has one for each block."""
    image_size: Annotated[tuple[int, int], items(2, 2)] | None = None
    """Height and width in pixels that the backbone is built for. Vision transformers need it; convolutional networks
    accept any size."""
    frames: Annotated[int, Field(ge=2, le=256)]
    """Frames sampled from each clip, including the first and the last."""
    grid: Annotated[int, Field(ge=1, le=32)] = 4
    """Cells per side that a feature map is pooled to. Above 1, features keep positions, such as "at the goal"."""
    channels: Annotated[int, Field(ge=1, le=4096)] = 32
    """Channels of each cell."""


Input = Literal["text", "video", "actions"]
"""An input of a reward model."""


class EncoderSpec(Spec):
    """The encoder of a reward model: a transformer over the words of the instruction and one token for each frame, with
    the state that a probe perceives and the actions that led to it."""

    inputs: Annotated[tuple[Input, ...], items(1, 3)] = ("text", "video", "actions")
    """Inputs of the model. The paper's reward model does not read `actions`; without them, a model cannot know the true
    outcome, and has no faithful scores."""
    frames: Annotated[int, Field(ge=2, le=1024)] = 32
    """Maximum number of frames read of each clip. Longer clips are sampled evenly, including the first and last
    frame."""
    width: Annotated[int, Field(ge=8, le=8192)]
    """Width of the transformer."""
    layers: Annotated[int, Field(ge=1, le=48)] = 2
    """Transformer layers."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Attention heads; must divide `width`."""
    dropout: Fraction = 0.1
    """Dropout probability in training."""
    scene_dropout: Fraction = 0.0
    """Fraction of training clips whose perceived states are masked, so that the model learns to score unknown scenes by
    text, motion and `appearance`."""
    appearance: AppearanceSpec | None = None
    """A backbone on raw frames, in addition to the perceived states; null for none."""
    text: TextSpec = TextSpec()
    """The encoder of the instruction."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise FieldError("heads", f"width ({self.width}) must be divisible by heads ({self.heads})")
        if "video" not in self.inputs:
            raise FieldError("inputs", "a reward model must read videos; add video")
        return self


class ScoringLossSpec(Spec):
    """The loss of a reward model: a dimension-weighted Huber loss (paper), and the same loss within groups."""

    delta: Positive = 0.5
    """Error of a normalised score at which the Huber loss changes from squared to linear."""
    within_group: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Weight of the loss on scores minus their mean over the rollouts of one prompt. Only these differences affect a
    group-normalised advantage."""
    faithful: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Weight of the faithful scores; the weight of the absolute scores is 1."""


class RewardModelSpec(Spec):
    """The fields that regression judges and students share: encoder, loss and training."""

    encoder: EncoderSpec
    """Encodes clip, instruction and actions."""
    loss: ScoringLossSpec = ScoringLossSpec()
    """The training loss."""
    set_size: Annotated[int, Field(ge=2, le=1024)] = 8
    """Clips per set. A batch consists of sets; a set is a group of rollouts of one prompt, or of single clips."""
    group_share: Fraction = 0.5
    """Fraction of the sets that are groups of rollouts; 0 is used if the bench has none."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Clips scored at once; affects the speed, not the scores."""
    training: TrainingSpec
    """Optimisation; `batch_size` counts sets."""
    init: CheckpointInitSpec | None = None
    """Origin of the initial weights, with their vocabulary and state probe; null starts from random ones."""

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        require_weights(self.training, self.init)
        return self
