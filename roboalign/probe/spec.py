"""The state probe: a small network from the frames of a clip to the simulator's state, and how it is measured."""

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from roboalign.spec.base import FieldError, Fraction, Seed, Spec, items
from roboalign.spec.training import TrainingSpec

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


class ProbeMeasureSpec(Spec):
    """How the probe's errors are measured, on test episodes."""

    frames: Annotated[int, Field(ge=1, le=1024)] = 15
    """Frames after the first one that the tokenizer reconstructs and the world model predicts: from the beginning and
    up to the end of each episode."""
    episodes: Annotated[int, Field(ge=1)] = 64
    """At most so many test episodes, the tasks in turn."""
    draws: Annotated[int, Field(ge=100, le=1_000_000)] = 2000
    """Bootstrap draws of the 95 % intervals over episodes."""
    seed: Seed = 0
    """Seed of the bootstrap and of the world model's rollouts."""


class ProbeSpec(Spec):
    """The state probe: what labels generated clips. It learns from recorded frames of the sources that have states."""

    widths: Annotated[tuple[Width, ...], items(2, 6)] = (16, 32, 64)
    """Channels of the feature maps, from half the image's resolution downwards. Our choice."""
    blocks: Annotated[int, Field(ge=1, le=8)] = 1
    """Residual blocks on each level, on the way down and on the way up."""
    hidden: Annotated[int, Field(ge=8, le=4096)] = 128
    """Width of the readout."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the readout's features that are dropped in training."""
    members: Annotated[int, Field(ge=1, le=8)] = 2
    """Networks with different initial weights, trained side by side on different batches; the probe answers with their
    mean. How far they disagree is reported: on generated frames, where nobody knows the state, nothing else tells."""
    episodes: Annotated[int, Field(ge=1)] = 1024
    """At most so many training episodes, the tasks in turn; they are held in memory."""
    frames: Annotated[int, Field(ge=2, le=64)] = 4
    """Frames of a training clip. The readout sees two frames before and after each."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 16
    """Clips probed at once; changes the speed, not the states."""
    augmentation: AugmentationSpec = AugmentationSpec()
    """What is done to the training frames."""
    measure: ProbeMeasureSpec = ProbeMeasureSpec()
    """How the errors are measured."""
    training: TrainingSpec
    """Optimisation; each member gets its share of the batch."""

    @property
    def finest(self) -> int:
        """The level of the features that the readout looks up at the points."""
        return 1 if len(self.widths) > 2 else len(self.widths) - 1

    def parameters(self, tasks: int) -> int:
        """Weights of all members, for so many tasks."""
        widths, hidden = self.widths, self.hidden
        eye = 26 * 9 * widths[0] + 4 * widths[0] + 3 + tasks * widths[-1]
        for above, width in pairwise(widths):
            eye += 9 * above * width + width + self.blocks * (18 * width**2 + 4 * width)
            eye += above * width + above + 9 * above**2 + above
        readout = (4 * widths[self.finest] + 13) * hidden + 2 * (3 * hidden + 1) * hidden
        readout += 4 * (hidden + 1) + (hidden + 9) * hidden + 5 * (hidden + 1) + tasks * (hidden + 2)
        return self.members * (eye + readout)

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

    @model_validator(mode="after")
    def _shared(self) -> Self:
        if self.training.batch % self.members:
            raise FieldError(
                "training.batch",
                f"a batch of {self.training.batch} does not divide over {self.members} members; change one of them",
            )
        return self
