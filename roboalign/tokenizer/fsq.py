"""Finite scalar quantization (Mentzer et al., arXiv 2309.15505): a fixed grid instead of a learned codebook."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn


class FSQ(nn.Module):
    """Rounds channel d to one of `levels[d]` values in [-1, 1]; a code is the mixed-radix number of all digits."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.codes = prod(levels)
        sizes = torch.tensor(levels)
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("strides", torch.cumprod(torch.cat([sizes.new_ones(1), sizes[:-1]]), 0), persistent=False)

    sizes: Tensor
    strides: Tensor

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize (..., D) latents: values (..., D) in [-1, 1] with straight-through gradients, and codes (...)."""
        span = (self.sizes - 1).to(latent.dtype)
        # A sigmoid onto [-0.5, size - 0.5] gives each level, the outer ones too, an equal part of its range.
        position = torch.sigmoid(2 * latent) * self.sizes - 0.5
        digits = position.detach().round().clamp(min=torch.zeros_like(span), max=span)
        position = position + (digits - position).detach()
        return position * (2 / span) - 1, (digits.long() * self.strides).sum(-1)

    def values(self, codes: Tensor) -> Tensor:
        """The values (..., D) in [-1, 1] of codes (...)."""
        digits = (codes.unsqueeze(-1) // self.strides) % self.sizes
        return digits * (2 / (self.sizes - 1)) - 1


class BoundedFSQ(FSQ):
    """FSQ as its authors bound it, by a tanh: outer levels take less of the range than inner ones.

    Of an even number of levels one more lies below 0 than above: their values go from -1 to 1 - 2 / levels.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__(levels)
        reach = (self.sizes - 1) * (1 + 1e-3) / 2
        offset = (self.sizes % 2 == 0) * 0.5
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("shift", (offset / reach).atanh(), persistent=False)

    reach: Tensor
    offset: Tensor
    shift: Tensor

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize (..., D) latents: values (..., D) with straight-through gradients, and codes (...)."""
        position = torch.tanh(latent + self.shift) * self.reach - self.offset
        nearest = position.detach().round()
        position = position + (nearest - position).detach()
        half = self.sizes // 2
        return position / half, ((nearest.long() + half) * self.strides).sum(-1)

    def values(self, codes: Tensor) -> Tensor:
        """The values (..., D) of codes (...)."""
        half = self.sizes // 2
        return ((codes.unsqueeze(-1) // self.strides) % self.sizes - half) / half
