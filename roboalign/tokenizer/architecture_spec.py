"""The architectures of the tokenizer, by kind, and how many parameters RLVR-World's has."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from roboalign.spec.base import Fraction, Spec

ATTENTION_GROUPS = 32
"""Groups of the normalisations before RLVR-World's cross-attention, whatever `groups` is."""


class DualBranchSpec(Spec):
    """Our own: convolutions at resolutions that space-to-depth halves, blended with warped copies of the context
    (tokenizer/model.py; `patch` and `warps` are its fields)."""

    kind: Literal["dual_branch"]


class CompressiveSpec(Spec):
    """RLVR-World's CompressiveVQModelFSQ, whose published weights `init` imports (tokenizer/compressive.py).

    `widths`, `blocks` and `attention` are its channels, layers a block and cross-attention; `patch` is 1, `warps` 0.
    """

    kind: Literal["compressive"]
    latent_channels: Annotated[int, Field(ge=1, le=4096)] = 64
    """Channels between encoder and quantizer (`latent_channels` of its config)."""
    groups: Annotated[int, Field(ge=1, le=256)] = 32
    """Groups of the normalisations (`norm_num_groups`)."""
    context_attention: bool = False
    """Self-attention in the middle of the context's encoder and decoder (`mid_block_add_attention`); the dynamics
    branch always has it."""
    dropout: Fraction = 0.1
    """Dropout of the cross-attention in training."""


Architecture = Annotated[DualBranchSpec | CompressiveSpec, Field(discriminator="kind")]
"""The architecture, by kind."""


def compressive_parameters(
    spec: CompressiveSpec,
    widths: tuple[int, ...],
    blocks: int,
    digits: tuple[int, int],
    patch: int,
    attended: tuple[tuple[int, int], ...],
    colours: int,
) -> int:
    """Parameters of the compressive architecture.

    Args:
        spec: The architecture.
        widths: Channels of each level, from fine to coarse.
        blocks: Residual blocks of a level of the encoders; the decoders have one more.
        digits: FSQ channels of the context and the dynamics branch.
        patch: Rows, and columns, of latent features that a dynamics token covers.
        attended: Width and positions of each cross-attention of the dynamics branch.
        colours: Channels of a frame.
    """
    coarse, latent = widths[-1], spec.latent_channels
    self_attention = 2 * coarse + 4 * _convolution(coarse, coarse)
    middle = 2 * _block(coarse, coarse)
    up = widths[::-1]
    encoder = _convolution(colours, widths[0], 3) + middle + 2 * coarse + _convolution(coarse, latent, 3)
    encoder += sum(_level(a, b, blocks) for a, b in pairwise((widths[0], *widths)))
    encoder += sum(_convolution(width, width, 3) for width in widths[:-1])
    decoder = _convolution(latent, coarse, 3) + middle + 2 * widths[0] + _convolution(widths[0], colours, 3)
    decoder += sum(_level(a, b, blocks + 1) for a, b in pairwise((coarse, *up)))
    decoder += sum(_convolution(width, width, 3) for width in up[:-1])
    total = 2 * (encoder + decoder) + (4 if spec.context_attention else 2) * self_attention
    for folded, count in ((latent, digits[0]), (latent * patch**2, digits[1])):
        total += _convolution(folded, count) + _convolution(count, folded)
    return total + sum(4 * width + 2 * cells * width + 4 * _convolution(width, width) for width, cells in attended)


def _convolution(inputs: int, outputs: int, kernel: int = 1) -> int:
    """Parameters of one convolution with bias."""
    return inputs * outputs * kernel**2 + outputs


def _block(inputs: int, outputs: int) -> int:
    """Parameters of one residual block."""
    shortcut = _convolution(inputs, outputs) if inputs != outputs else 0
    return 2 * inputs + _convolution(inputs, outputs, 3) + 2 * outputs + _convolution(outputs, outputs, 3) + shortcut


def _level(inputs: int, outputs: int, blocks: int) -> int:
    """Parameters of the residual blocks of a level."""
    return _block(inputs, outputs) + (blocks - 1) * _block(outputs, outputs)
