"""Interfaces of the tokenizer and the world model that alignment uses; the stage passes the implementations in."""

from collections.abc import Callable
from typing import Any, Protocol, Self

from torch import Tensor

RolloutFn = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Samples rollouts from the current policy: (context frames (B, 3, H, W), actions (B, F, A), action masks (B, A),
seeds (B,)) to frames (B, F, 3, H, W) and tokens (B, F, Nd). Each window is conditioned on the frame before it."""


class ContextTokens(Protocol):
    """Encoded context frames of a batch."""

    @property
    def tokens(self) -> Tensor:
        """Context tokens (B, Nc)."""

    def select(self, rows: Tensor) -> Self:
        """The contexts of the rows `rows` of the batch."""


class ValueTokenizer(Protocol):
    """A frozen tokenizer whose codes are points of a grid, as those of FSQ."""

    def encode_context(self, frames: Tensor) -> Any:
        """Encode frames (B, 3, H, W) as ContextTokens."""

    def code_values(self, tokens: Tensor) -> Tensor:
        """The grid points (..., V) of codes (...)."""

    def decode_values(self, context: Any, values: Tensor) -> Tensor:
        """Decode code values (B, F, Nd, V) to frames (B, F, 3, H, W), with gradients to the values."""
