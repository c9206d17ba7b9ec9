"""The interface of tokenizers, and the encoded context frame on which later frames are conditioned."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from roboalign.tokenizer.spec import COLOURS, TokenizerSpec


@dataclass
class EncodedContext:
    """An encoded context frame: all that encoding and decoding of later frames need of it."""

    tokens: Tensor
    """Codes, int64: `context_tokens` of the frame itself, then, from `encode_context`, the `dynamics_tokens` that the
    frame would get as a later frame. These encode "nothing has moved", and the world model starts from them."""
    features: tuple[Tensor, ...]
    """Features of the context for the layers of the dynamics branch, in order; batch first."""
    pixels: Tensor
    """The frame itself, (B, 3, H, W) in [0, 1]."""

    def select(self, rows: Tensor | slice | Sequence[int]) -> "EncodedContext":
        """The contexts at `rows`."""
        return EncodedContext(self.tokens[rows], tuple(f[rows] for f in self.features), self.pixels[rows])

    def repeat(self, n: int) -> "EncodedContext":
        """Each context `n` times in a row."""
        features = tuple(f.repeat_interleave(n, 0) for f in self.features)
        return EncodedContext(self.tokens.repeat_interleave(n, 0), features, self.pixels.repeat_interleave(n, 0))


class Tokenizer(nn.Module, ABC):
    """Frames are float32 in [0, 1]; tokens are int64 codes. Built from its spec alone."""

    spec: TokenizerSpec

    def encode_context(self, frames: Tensor) -> EncodedContext:
        """Encode context frames (B, 3, H, W). Raises ValueError on frames of another size."""
        if frames.shape[1:] != (COLOURS, self.spec.height, self.spec.width):
            raise ValueError(
                f"frames are {tuple(frames.shape[1:])}, the tokenizer takes (3, {self.spec.height}, {self.spec.width})"
            )
        context = self._context(frames)[0]
        still = self.encode(context, frames.unsqueeze(1))[:, 0]
        return EncodedContext(torch.cat([context.tokens, still], 1), context.features, context.pixels)

    @abstractmethod
    def _context(self, frames: Tensor) -> tuple[EncodedContext, Tensor]:
        """The context with its `context_tokens` alone, and the features from which its own decoding goes on."""

    @abstractmethod
    def decode_context(self, tokens: Tensor) -> Tensor:
        """The frames (B, 3, H, W) that context tokens alone describe; dynamics tokens behind them are not looked at."""

    @abstractmethod
    def encode(self, context: EncodedContext, frames: Tensor) -> Tensor:
        """Dynamics tokens (B, F, dynamics_tokens) of frames (B, F, 3, H, W) under their contexts."""

    @abstractmethod
    def decode(self, context: EncodedContext, tokens: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) in [0, 1] of dynamics tokens (B, F, dynamics_tokens) under their contexts."""

    @abstractmethod
    def code_values(self, tokens: Tensor) -> Tensor:
        """The points (..., V) of FSQ's grid, in [-1, 1], that dynamics codes (...) stand for."""

    @abstractmethod
    def decode_values(self, context: EncodedContext, values: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) of values (B, F, dynamics_tokens, V) of dynamics tokens, with gradients to them."""

    @abstractmethod
    def forward(self, context: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """For training: reconstructions of context frames (B, 3, H, W) and of later frames (B, F, 3, H, W)."""
