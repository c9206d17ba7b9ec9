"""The state probes: small networks from the frames of a clip to the simulator's state, and how they are measured."""

from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from roboalign.rollout.spec import KvWindowSpec, PolicyDecodingSpec
from roboalign.spec.base import FieldError, Fraction, Seed, Spec, items
from roboalign.spec.training import RequiredTraining, TrainingSpec

ProbeName = Literal["judge", "gold", "held_out"]
"""`judge` is the perception of the judge and labels the bench; `gold` scores rollouts; `held_out` is the perception of
the held-out judge."""

Width = Annotated[int, Field(ge=8, le=2048, multiple_of=8)]
"""Channels of a feature map."""


class AugmentationSpec(Spec):
    """What is done to training frames, so that the probe also reads frames that a tokenizer or a world model made.

    All of it is our choice. None of it changes the state that a frame shows.
    """

    reconstructed: Annotated[float, Field(ge=0, le=0.5)] = 0.4
    """Share of the training clips shown as the tokenizer reconstructs them, from a context in the first half of the
    episode. Every other episode is reconstructed, which takes as long as a sixth of the training."""
    blurred: Fraction = 0.3
    """Share of the clips blurred, by a Gaussian of up to one pixel."""
    noise: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    """Largest standard deviation of pixel noise, of the range of a pixel; each clip draws its own."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest change of contrast and of brightness, as a share."""
    rearranged: Fraction = 0.3
    """Share of the clips whose frames are drawn in random order, with repeats: each frame keeps its own state, so that
    what the probe says of a frame does not hang on motion being smooth."""


class OutcomeSpec(Spec):
    """The outcome model: a small recurrent network that predicts, from the perceived state of a first frame and the
    actions, the states that the probe would perceive in the true future."""

    hidden_size: Annotated[int, Field(ge=8, le=4096)] = 128
    """Width of the network."""
    length: Annotated[int, Field(ge=2, le=1024)] = 31
    """Frames of a training stretch, the first one included."""
    training: RequiredTraining = TrainingSpec(
        steps=800, batch_size=64, learning_rate=0.003, warmup_steps=50, log_every=50
    )
    """Optimisation."""


class ProbeMeasureSpec(Spec):
    """How the probe's errors are measured, on test episodes."""

    frames: Annotated[int, Field(ge=1, le=1024)] = 15
    """Frames after the first one that the tokenizer reconstructs and the world model predicts: from the beginning and
    up to the end of each episode."""
    decoding: PolicyDecodingSpec = KvWindowSpec()
    """How the world model predicts them, greedily: by default within the sequence length that it was trained on."""
    episodes: Annotated[int, Field(ge=1)] = 64
    """At most so many test episodes, the tasks in turn."""
    draws: Annotated[int, Field(ge=100, le=1_000_000)] = 2000
    """Bootstrap draws of the 95 % intervals over episodes."""
    seed: Seed = 0
    """Seed of the bootstrap and of the world model's rollouts."""


class PerceptionSpec(Spec):
    """The networks from frames to points in the image and, from these, to the simulator's state."""

    widths: Annotated[tuple[Width, ...], items(2, 6)] = (16, 32, 64)
    """Channels of the feature maps, from half the image's resolution downwards. Our choice."""
    blocks: Annotated[int, Field(ge=1, le=8)] = 1
    """Residual blocks on each level, on the way down and on the way up."""
    hidden_size: Annotated[int, Field(ge=8, le=4096)] = 128
    """Width of the readout."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the readout's features that are dropped in training."""
    members: Annotated[int, Field(ge=1, le=8)] = 1
    """Ensemble members: networks with different initial weights, trained side by side on different batches. The probe
    returns their mean state; their disagreement is reported."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    """Clips of four frames, or as many frames in longer ones, that are probed at once; changes the speed, not the
    states."""

    @property
    def finest(self) -> int:
        """The level of the features that the readout looks up at the points."""
        return 1 if len(self.widths) > 2 else len(self.widths) - 1

    def parameters(self, tasks: int) -> int:
        """Weights of all members, for so many tasks."""
        widths, hidden = self.widths, self.hidden_size
        encoder = 26 * 9 * widths[0] + 4 * widths[0] + 3 + tasks * widths[-1]
        for above, width in pairwise(widths):
            encoder += 9 * above * width + width + self.blocks * (18 * width**2 + 4 * width)
            encoder += above * width + above + 9 * above**2 + above
        readout = (4 * widths[self.finest] + 13) * hidden + 2 * (3 * hidden + 1) * hidden
        readout += 4 * (hidden + 1) + (hidden + 9) * hidden + 5 * (hidden + 1) + tasks * (hidden + 2)
        return self.members * (encoder + readout)

    def operations(self, height: int, width: int) -> float:
        """Operations of reading one frame, by all members: the convolutions, which take nearly all."""
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
        """Activations kept for the backward pass of one frame, by all members."""
        cells = sum(channels * height * width / 4.0 ** (level + 1) for level, channels in enumerate(self.widths))
        return self.members * cells * (6 + 5 * self.blocks)


class ProbeSpec(PerceptionSpec):
    """One state probe. It learns from recorded frames of the sources that have states."""

    part: Annotated[int, Field(ge=0, le=15)] = 0
    """Which part of the training episodes it learns from, counted from 0; see `parts`."""
    parts: Annotated[int, Field(ge=1, le=16)] = 3
    """Number of disjoint parts that the initial scenes of the training episodes are dealt into, task by task."""

    episodes: Annotated[int, Field(ge=1)] = 1024
    """At most so many training episodes, the tasks in turn; they are held in memory."""
    frames: Annotated[int, Field(ge=2, le=64)] = 4
    """Frames of a training clip. The readout sees two frames before and after each."""
    augmentation: AugmentationSpec = AugmentationSpec()
    """What is done to the training frames."""
    outcome: OutcomeSpec | None = OutcomeSpec()
    """What actions lead to, in the states that this probe perceives, for the reward models that see through it; it
    learns from all training episodes. null for none: gold knows the true future."""
    measure: ProbeMeasureSpec = ProbeMeasureSpec()
    """How the errors are measured."""
    training: RequiredTraining
    """Optimisation; each member gets its share of the batch."""

    @property
    def network(self) -> PerceptionSpec:
        """The networks alone, which is what a model file keeps."""
        return PerceptionSpec.model_validate(self.model_dump(include=set(PerceptionSpec.model_fields)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.part >= self.parts:
            raise FieldError("part", f"part {self.part} does not exist: parts are numbered 0 to {self.parts - 1}")
        if self.training.batch_size % self.members:
            raise FieldError(
                "training.batch_size",
                f"{self.training.batch_size} must be divisible by members ({self.members}); change one of them",
            )
        return self


class ProbesSpec(Spec):
    """Three state probes, trained apart on disjoint episodes, so that no scorer confirms another's mistakes."""

    judge: ProbeSpec
    """The perception of the judge, which also labels generated clips for its training."""
    gold: ProbeSpec
    """The perception of the gold scores. No trained reward sees it."""
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
                    f"{name} and {taken[probe.part]} learn from the same part {probe.part}, so they are not "
                    "independent; give each a part of its own",
                )
            taken[probe.part] = name
        return self
