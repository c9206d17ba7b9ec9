"""The dual-branch FSQ tokenizer: sizes, losses, training. Derived counts are exact and do not need torch.

Defaults without a named source are our choice.
"""

from itertools import pairwise
from math import prod
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from roboalign.spec.base import FieldError, Fraction, Spec, items
from roboalign.spec.training import TrainingSpec
from roboalign.spec.weights import Init, require_weights
from roboalign.tokenizer.architecture_spec import (
    ATTENTION_GROUPS,
    Architecture,
    CompressiveSpec,
    DualBranchSpec,
    compressive_parameters,
)

Grid = Annotated[tuple[int, int], Field(strict=False)]
"""Rows and columns."""

Levels = Annotated[tuple[Annotated[int, Field(ge=2, le=256)], ...], items(1, 16)]
"""Levels of each FSQ channel; their product is the number of codes."""

Weight = Annotated[float, Field(ge=0, le=1e4)]
"""The weight of a term of the loss; 0 leaves the term out."""

COLOURS = 3


class AttentionSpec(Spec):
    """Cross-attention of the dynamics branch to the features of the context frame."""

    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Heads. Source: RLVR-World."""
    max_height: Annotated[int, Field(ge=0, le=4096)] = 32
    """Attend at levels of at most this many rows; 0 never attends. Source: RLVR-World."""


class AdversarialSpec(Spec):
    """A patch discriminator with the hinge loss (RLVR-World)."""

    weight: Weight = 0.1
    """Weight of the generator's term. Source: RLVR-World."""
    start: Annotated[int, Field(ge=0)] = 10_000
    """First step with the adversarial terms. Source: RLVR-World."""
    width: Annotated[int, Field(ge=8, le=1024)] = 64
    """Channels of the discriminator's first convolution; the next two double them."""
    learning_rate_scale: Annotated[float, Field(gt=0, le=100)] = 1.0
    """The discriminator's learning rate over the tokenizer's."""


class LossSpec(Spec):
    """The reconstruction loss. A pixel's weight is 1 + motion·m + near·g, normalised to mean 1 over the frame.

    m rises from 0 to 1 with the colour difference to the context (in full at a quarter of the range); g is 1 at the
    keypoints of gripper and object and falls off as a Gaussian. Sources without keypoints have g = 0.
    """

    l1: Weight = 1.0
    """Absolute error. Source: RLVR-World."""
    mse: Weight = 0.0
    """Squared error."""
    motion: Weight = 0.0
    """Extra weight of moving pixels."""
    near: Weight = 0.0
    """Extra weight at gripper and object, so that small objects stay visible for the judge."""
    radius: Annotated[float, Field(gt=0, le=1)] = 0.06
    """Standard deviation of that Gaussian, as a share of the frame's width."""
    context: Weight = 1.0
    """Weight of the context frame's own reconstruction from its tokens."""
    perceptual: Weight = 0.0
    """Weight of `evaluation.perceptual` (LPIPS in RLVR-World)."""


class SamplesSpec(Spec):
    """Training samples: a context frame and later frames of the same episode."""

    frames: Annotated[int, Field(ge=1, le=64)] = 3
    """Later frames of one context frame."""
    horizon: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Largest distance of a later frame to its context, in frames; at least the length of a window."""
    reencoded: Fraction = 0.0
    """Share of samples whose context is the tokenizer's own reconstruction, as in sliding-window re-encoding."""
    evaluated: Annotated[int, Field(ge=1, le=1000)] = 8
    """Later frames of each test episode that are measured, spread evenly over the horizon."""


class TokenizerSpec(Spec):
    """A context frame becomes `context_tokens` codes; each later frame, given it, `dynamics_tokens` codes.

    Convolutions run at resolutions height / (patch·2^i), with widths[i] channels. A branch goes down to the last level
    that its grid divides, and folds what is left of the factor into channels.
    """

    height: Annotated[int, Field(ge=8, le=4096)]
    """Rows of a frame. Paper scale: 256."""
    width: Annotated[int, Field(ge=8, le=4096)]
    """Columns of a frame. Paper scale: 320."""
    patch: Annotated[int, Field(ge=1, le=32)] = 1
    """Space-to-depth factor before the first convolution. Our choice: 4 at 64 pixels saves most of the time."""
    widths: Annotated[tuple[Annotated[int, Field(ge=8, le=4096, multiple_of=8)], ...], items(1, 8)]
    """Channels at each level, from fine to coarse. RLVR-World: 128, 256, 256, 512."""
    blocks: Annotated[int, Field(ge=1, le=16)] = 2
    """Residual blocks a level. Source: RLVR-World."""
    context_grid: Grid
    """Rows and columns of context tokens. Paper scale: 32 x 40."""
    dynamics_grid: Grid
    """Rows and columns of one frame's dynamics tokens. Paper scale: 8 x 10."""
    context_levels: Levels = (7, 5, 5, 5, 5)
    """FSQ levels of the context branch. Source: RLVR-World."""
    dynamics_levels: Levels = (7, 5, 5, 5, 5)
    """FSQ levels of the dynamics branch. Source: RLVR-World."""
    attention: AttentionSpec = AttentionSpec()
    """Cross-attention to the context."""
    architecture: Architecture = DualBranchSpec(kind="dual_branch")
    """The networks."""
    warps: Annotated[int, Field(ge=0, le=16)] = 0
    """Displaced copies of the context frame that the decoder may blend in. Our choice: moved things keep looks."""
    loss: LossSpec = LossSpec()
    """Terms of the loss."""
    adversarial: AdversarialSpec | None = None
    """The discriminator; null trains without one."""
    samples: SamplesSpec = SamplesSpec()
    """Training samples and evaluated frames."""
    training: TrainingSpec
    """How it is trained; `batch_size` counts context frames."""
    init: Init | None = None
    """Origin of the initial weights; null starts from random ones."""

    @field_validator("widths")
    @classmethod
    def _levels_divide(cls, widths: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if {"height", "width", "patch"} <= info.data.keys():
            factor = info.data["patch"] * 2 ** (len(widths) - 1)
            for name in ("height", "width"):
                if info.data[name] % factor:
                    raise ValueError(
                        f"{len(widths)} levels over patch {info.data['patch']} shrink the frame {factor} times, which "
                        f"does not divide its {name} {info.data[name]}; use fewer levels or another size"
                    )
        return widths

    @field_validator("context_grid", "dynamics_grid")
    @classmethod
    def _grid_divides(cls, grid: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
        if {"height", "width", "patch"} <= info.data.keys():
            rows, columns = (info.data[name] // info.data["patch"] for name in ("height", "width"))
            if min(grid) < 1 or rows % grid[0] or columns % grid[1]:
                raise ValueError(
                    f"a grid of {grid[0]} x {grid[1]} does not divide the first level's {rows} x {columns}"
                )
        return grid

    @field_validator("attention")
    @classmethod
    def _heads_divide(cls, attention: AttentionSpec, info: ValidationInfo) -> AttentionSpec:
        if {"height", "patch", "widths"} <= info.data.keys():
            for level, width in enumerate(info.data["widths"]):
                rows = info.data["height"] // info.data["patch"] // 2**level
                if rows <= attention.max_height and width % attention.heads:
                    raise ValueError(f"{attention.heads} heads do not divide the {width} channels of level {level}")
        return attention

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        require_weights(self.training, self.init)
        return self

    @model_validator(mode="after")
    def _compressive_fits(self) -> Self:
        if not isinstance(self.architecture, CompressiveSpec):
            return self
        for field, want in (("patch", 1), ("warps", 0)):
            if getattr(self, field) != want:
                raise FieldError(field, f"the architecture `compressive` has none; set {field} to {want}")
        coarse, grid = self.resolution(len(self.widths) - 1), self.dynamics_grid
        if self.context_grid != coarse:
            raise FieldError(
                "context_grid",
                "the architecture `compressive` has a token for each place of its coarsest level; set this to "
                f"{list(coarse)}",
            )
        if coarse[0] % grid[0] or coarse[1] % grid[1] or coarse[0] // grid[0] != coarse[1] // grid[1]:
            raise FieldError(
                "dynamics_grid",
                f"the architecture `compressive` folds squares of its coarsest level, {coarse[0]} x {coarse[1]}, into "
                "tokens; divide both by one number",
            )
        groups = self.architecture.groups
        for level, width in enumerate(self.widths):
            if width % groups:
                raise FieldError(f"widths.{level}", f"{width} is not divisible by {groups} groups; change one")
        for width, _ in self.cross_attentions:
            for parts, what in ((ATTENTION_GROUPS, "groups"), (self.attention.heads, "heads")):
                if width % parts:
                    raise FieldError(
                        "widths",
                        f"cross-attention at width {width} has {parts} {what}, which do not divide it; change the "
                        "width, or lower attention.max_height",
                    )
        return self

    @property
    def encoder_attention(self) -> tuple[int, ...]:
        """The levels after which the compressive dynamics encoder attends to the context."""
        last = len(self.widths) - 1
        return tuple(i for i in range(last + 1) if self.resolution(min(i + 1, last))[0] <= self.attention.max_height)

    @property
    def decoder_attention(self) -> tuple[int, ...]:
        """The steps after which the compressive dynamics decoder attends: 0 is its middle, i + 1 its i-th level."""
        last = len(self.widths) - 1
        rows = [self.resolution(max(last - i - 1, 0))[0] for i in range(last + 1)]
        return (0, *(i + 1 for i in range(last + 1) if rows[i] <= self.attention.max_height))

    @property
    def cross_attentions(self) -> tuple[tuple[int, int], ...]:
        """Width and positions of each cross-attention of the compressive architecture, the encoder's first."""
        last, up = len(self.widths) - 1, (self.widths[-1], *self.widths[::-1])
        encoder = [(self.widths[i], prod(self.resolution(min(i + 1, last)))) for i in self.encoder_attention]
        decoder = [(up[i], prod(self.resolution(max(last - i, 0)))) for i in self.decoder_attention]
        return (*encoder, *decoder)

    @property
    def context_tokens(self) -> int:
        """Tokens of a context frame."""
        return prod(self.context_grid)

    @property
    def dynamics_tokens(self) -> int:
        """Tokens of each later frame."""
        return prod(self.dynamics_grid)

    @property
    def context_codes(self) -> int:
        """Different values of a context token."""
        return prod(self.context_levels)

    @property
    def dynamics_codes(self) -> int:
        """Different values of a dynamics token."""
        return prod(self.dynamics_levels)

    @property
    def encoded_context(self) -> int:
        """Numbers that an encoded context frame consists of: its pixels, and its features for the dynamics branch."""
        pixels = COLOURS * self.height * self.width
        if isinstance(self.architecture, CompressiveSpec):
            return pixels + sum(2 * width * positions for width, positions in self.cross_attentions)
        shared = range(min(self.depth(self.context_grid), self.depth(self.dynamics_grid)))
        sizes = {level: self.widths[level] * prod(self.resolution(level)) for level in shared}
        attended = sum(4 * size for level, size in sizes.items() if self.attends(level))
        return pixels + sizes[0] + sum(sizes.values()) + attended

    def resolution(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level's features."""
        factor = self.patch * 2**level
        return self.height // factor, self.width // factor

    def depth(self, grid: tuple[int, int]) -> int:
        """The number of levels that a branch with this grid uses: down to the coarsest one that its grid divides."""
        fits = [
            all(side % cells == 0 for side, cells in zip(self.resolution(level), grid, strict=True))
            for level in range(len(self.widths))
        ]
        return max(level for level, fit in enumerate(fits) if fit) + 1

    def cells_per_token(self, grid: tuple[int, int]) -> tuple[int, int]:
        """How many rows and columns of the branch's coarsest level one token covers."""
        rows, columns = self.resolution(self.depth(grid) - 1)
        return rows // grid[0], columns // grid[1]

    def attends(self, level: int) -> bool:
        """Whether the dynamics branch attends to the context at this level (which the context branch must reach)."""
        return level < self.depth(self.context_grid) and self.resolution(level)[0] <= self.attention.max_height

    @property
    def residual_blocks(self) -> int:
        """Residual blocks of a level in an encoder and its decoder together."""
        return 2 * self.blocks + (1 if isinstance(self.architecture, CompressiveSpec) else 0)

    @property
    def parameters(self) -> int:
        """Parameters of the tokenizer, without the discriminator."""
        if not isinstance(self.architecture, CompressiveSpec):
            return _parameters(self)
        digits = len(self.context_levels), len(self.dynamics_levels)
        patch = self.context_grid[0] // self.dynamics_grid[0]
        return compressive_parameters(
            self.architecture, self.widths, self.blocks, digits, patch, self.cross_attentions, COLOURS
        )


def _convolution(inputs: int, outputs: int, kernel: int = 1) -> int:
    """Parameters of one convolution with bias."""
    return inputs * outputs * kernel**2 + outputs


def _parameters(spec: TokenizerSpec) -> int:
    """Parameters of the dual-branch architecture: the sum over layers, in the order of roboalign/tokenizer/model.py."""
    widths, pixels = spec.widths, COLOURS * spec.patch**2
    block = [spec.blocks * (2 * w + 2 * _convolution(w, w, 3)) for w in widths]
    down = [_convolution(4 * a, b) for a, b in pairwise(widths)]
    up = [_convolution(b, 4 * a) for a, b in pairwise(widths)]

    def codes(grid: tuple[int, int], levels: tuple[int, ...]) -> int:
        folded = widths[spec.depth(grid) - 1] * prod(spec.cells_per_token(grid))
        return _convolution(folded, len(levels)) + _convolution(len(levels), folded)

    context, dynamics = spec.depth(spec.context_grid), spec.depth(spec.dynamics_grid)
    total = codes(spec.context_grid, spec.context_levels) + codes(spec.dynamics_grid, spec.dynamics_levels)
    for depth in (context, dynamics):
        total += _convolution(pixels, widths[0], 3)
        total += 2 * sum(block[:depth]) + sum(down[: depth - 1]) + sum(up[: depth - 1])
    total += 2 * widths[0] + _convolution(widths[0], pixels, 3)  # the context decoder's head
    total += pixels * widths[0] * 9  # the context's part in the dynamics branch's first convolution
    outputs = spec.patch**2 * (COLOURS + 1 + spec.warps) + 2 * spec.warps
    total += 2 * widths[0] + _convolution(widths[0], outputs, 3)  # the dynamics decoder's head
    for level in range(min(context, dynamics)):
        w = widths[level]
        total += _convolution(w, w)  # the aligned features
        if spec.attends(level):
            total += 2 * (2 * w + prod(spec.resolution(level)) * w + 4 * _convolution(w, w))
    return total
