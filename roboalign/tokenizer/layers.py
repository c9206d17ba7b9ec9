"""Layers of the tokenizer. Feature maps are (N, C, rows, columns)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
"""Groups of every group normalisation."""


class ResidualBlock(nn.Module):
    """A residual block: normalisation, two 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():  # starts near the identity
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        change: Tensor = self.second(F.silu(self.first(F.silu(self.norm(x)))))
        return x + change


class Downsample(nn.Module):
    """Halves rows and columns."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4 * inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, 2r, 2c) to (N, outputs, r, c)."""
        halved: Tensor = self.mix(F.pixel_unshuffle(x, 2))
        return halved


class Upsample(nn.Module):
    """Doubles rows and columns."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inputs, 4 * outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, r, c) to (N, outputs, 2r, 2c)."""
        return F.pixel_shuffle(self.mix(x), 2)


class OutputHead(nn.Module):
    """Normalisation and the last convolution."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.last = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, r, c) to (N, outputs, r, c)."""
        outputs: Tensor = self.last(F.silu(self.norm(x)))
        return outputs


class ResidualStage(nn.Sequential):
    """The residual blocks of one level."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__(*(ResidualBlock(width) for _ in range(blocks)))


class CrossAttention(nn.Module):
    """Frames attend to the features of their context, all frames of one context at once."""

    def __init__(self, width: int, positions: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, width)
        self.position = nn.Parameter(torch.randn(positions, width) * 0.02)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        with torch.no_grad():
            self.out.weight.mul_(0.1)

    def _split(self, x: Tensor) -> Tensor:
        """(B, n, C) to (B, heads, n, C / heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def keys_and_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, positions, C / heads) of context features (B, C, r, c)."""
        x = context.flatten(2).transpose(1, 2)
        return self._split(self.key(x + self.position)), self._split(self.value(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Features (B·F, C, r, c), context-major, to the same shape."""
        batch, (rows, columns) = len(keys), x.shape[-2:]
        queries = self.query(self.norm(x).flatten(2).transpose(1, 2) + self.position)
        queries = self._split(queries.reshape(batch, -1, queries.shape[-1]))
        seen = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        change: Tensor = self.out(seen).reshape(len(x), rows, columns, -1)
        return x + change.permute(0, 3, 1, 2)
