"""The state probes: small networks that predict the simulator's state from frames, and how they are measured.

The paper has no probes; all defaults are our choice.
"""

from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from roboalign.rollout.spec import KvWindowSpec, PolicyDecodingSpec
from roboalign.spec.base import FieldError, Fraction, Seed, Spec, items
from roboalign.spec.training import RequiredTraining, TrainingSpec

ProbeName = Literal["judge", "gold", "held_out"]
"""`judge` is the judge's perception and labels the bench; `gold` scores rollouts; `held_out` is the held-out judge's
perception."""

Width = Annotated[int, Field(ge=8, le=2048, multiple_of=8)]
"""Channels of a feature map."""


class AugmentationSpec(Spec):
    """Augmentation of training frames, so that the probe also works on frames of a tokenizer or a world model.

    No augmentation changes the state that a frame shows.
    """

    reconstructed: Annotated[float, Field(ge=0, le=0.5)] = 0.4
    """Fraction of training clips that are reconstructed by the tokenizer, with a context from the first half of the
    episode. Every other episode is reconstructed, which takes about a sixth of the training time."""
    blurred: Fraction = 0.3
    """Fraction of clips that are blurred, by a Gaussian of up to one pixel."""
    noise: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    """Maximum standard deviation of pixel noise, for pixels in [0, 1]; each clip has its own."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Maximum relative change of contrast and of brightness."""
    rearranged: Fraction = 0.3
    """Fraction of clips whose frames are in random order, with repetitions. Each frame keeps its state, so predictions
    do not rely on smooth motion."""


class OutcomeSpec(Spec):
    """The outcome model: a small recurrent network that predicts the states that the probe would perceive in the true
    future, from the perceived first state and the actions."""

    hidden_size: Annotated[int, Field(ge=8, le=4096)] = 128
    """Width of the network."""
    length: Annotated[int, Field(ge=2, le=1024)] = 31
    """Frames of a training segment, the first one included."""
    training: RequiredTraining = TrainingSpec(
        steps=800, batch_size=64, learning_rate=0.003, warmup_steps=50, log_every=50
    )
    """Optimisation."""


class ProbeMeasureSpec(Spec):
    """How the probe's errors on test episodes are measured."""

    frames: Annotated[int, Field(ge=1, le=1024)] = 15
    """Frames after the first one that are reconstructed or predicted, at the beginning and at the end of each
    episode."""
    decoding: PolicyDecodingSpec = KvWindowSpec()
    """Greedy decoding of the world model; the default stays within the sequence length of its training."""
    episodes: Annotated[int, Field(ge=1)] = 64
    """Maximum number of test episodes, taken from the tasks in turn."""
    draws: Annotated[int, Field(ge=100, le=1_000_000)] = 2000
    """Bootstrap draws for the 95 % intervals over episodes."""
    seed: Seed = 0
    """Seed of the bootstrap and of the world model's rollouts."""


class PerceptionSpec(Spec):
    """The networks that predict image coordinates from frames, and the simulator's state from these."""

    widths: Annotated[tuple[Width, ...], items(2, 6)] = (16, 32, 64)
    """Channels of the feature maps of each level; the first level has half the image's resolution."""
    blocks: Annotated[int, Field(ge=1, le=8)] = 1
    """Residual blocks of each level of the encoder."""
    hidden_size: Annotated[int, Field(ge=8, le=4096)] = 128
    """Width of the readout."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout probability of the readout's features in training."""
    members: Annotated[int, Field(ge=1, le=8)] = 1
    """Ensemble members: networks with different initial weights, trained on different parts of each batch. The probe
    returns their mean state; their disagreement is reported."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    """Clips of four frames (or the same number of frames in longer clips) that are probed at once; affects the speed,
    not the states."""

    @property
    def finest(self) -> int:
        """The level whose features the readout uses at the points."""
        return 1 if len(self.widths) > 2 else len(self.widths) - 1

    def parameters(self, tasks: int) -> int:
        """Number of parameters of all members, for `tasks` tasks."""
        widths, hidden = self.widths, self.hidden_size
        encoder = 26 * 9 * widths[0] + 4 * widths[0] + 3 + tasks * widths[-1]
        for above, width in pairwise(widths):
            encoder += 9 * above * width + width + self.blocks * (18 * width**2 + 4 * width)
            encoder += above * width + above + 9 * above**2 + above
        readout = (4 * widths[self.finest] + 13) * hidden + 2 * (3 * hidden + 1) * hidden
        readout += 4 * (hidden + 1) + (hidden + 9) * hidden + 5 * (hidden + 1) + tasks * (hidden + 2)
        return self.members * (encoder + readout)

    def operations(self, height: int, width: int) -> float:
        """Operations of all members for one frame; only the convolutions, which dominate."""
        widths, total = self.widths, 0.0
        for level, channels in enumerate(widths):
            cells = height * width / 4.0 ** (level + 1)
            total += 18 * cells * (26 if level == 0 else widths[level - 1]) * channels
            if level:
                total += 36 * cells * channels**2 * self.blocks
            if level < len(widths) - 1:
                total += 18 * cells * channels**2
        return self.members * total

    def floats(self, height: int, width: int) -> float:
        """Activations that all members keep for the backward pass of one frame."""
        cells = sum(channels * height * width / 4.0 ** (level + 1) for level, channels in enumerate(self.widths))
        return self.members * cells * (6 + 5 * self.blocks)


class ProbeSpec(PerceptionSpec):
    """One state probe, trained on recorded frames of sources with states."""

    part: Annotated[int, Field(ge=0, le=15)] = 0
    """Number of the part of the training episodes that it is trained on, from 0; see `parts`."""
    parts: Annotated[int, Field(ge=1, le=16)] = 3
    """Number of disjoint parts of the training episodes; the scenes of each task are divided among them."""

    episodes: Annotated[int, Field(ge=1)] = 1024
    """Maximum number of training episodes, taken from the tasks in turn; they are held in memory."""
    frames: Annotated[int, Field(ge=2, le=64)] = 4
    """Frames of a training clip. The readout uses two frames before and after each frame."""
    augmentation: AugmentationSpec = AugmentationSpec()
    """Augmentation of the training frames."""
    outcome: OutcomeSpec | None = OutcomeSpec()
    """The outcome model for the reward models that use this probe, trained on all training episodes. null for none, as
    for `gold`, which uses the true future."""
    measure: ProbeMeasureSpec = ProbeMeasureSpec()
    """How its errors are measured."""
    training: RequiredTraining
    """Optimisation; the batch is divided among the members."""

    @property
    def network(self) -> PerceptionSpec:
        """The fields of the networks, which a checkpoint stores."""
        return PerceptionSpec.model_validate(self.model_dump(include=set(PerceptionSpec.model_fields)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.part >= self.parts:
            raise FieldError("part", f"part ({self.part}) must be below parts ({self.parts})")
        if self.training.batch_size % self.members:
            raise FieldError(
                "training.batch_size",
                f"{self.training.batch_size} must be divisible by members ({self.members}); change one of them",
            )
        return self


class ProbesSpec(Spec):
    """Three state probes, trained on disjoint episodes, so that the scorers that use them err independently."""

    judge: ProbeSpec
    """The perception of the judge, which also labels generated clips for its training."""
    gold: ProbeSpec
    """The perception of the gold scorer; no trained reward model uses it."""
    held_out: ProbeSpec
    """The perception of the held-out judge, which also labels generated clips for that judge's training."""

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        probes = {name: getattr(self, name) for name in get_args(ProbeName)}
        taken: dict[int, str] = {}
        for name, probe in probes.items():
            if probe.parts != self.judge.parts:
                raise FieldError(
                    f"{name}.parts", f"parts is {probe.parts}, but judge.parts is {self.judge.parts}; make them equal"
                )
            if probe.part in taken:
                raise FieldError(
                    f"{name}.part",
                    f"{name} and {taken[probe.part]} use the same part {probe.part}, so they are not independent; give "
                    "each its own part",
                )
            taken[probe.part] = name
        return self
