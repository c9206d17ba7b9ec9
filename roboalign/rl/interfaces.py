"""What alignment needs of tokenizer and world model; the stage passes the real ones in."""

from collections.abc import Callable
from typing import Any, Protocol, Self

from torch import Tensor

RolloutFn = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(context frames (B, 3, H, W), actions (B, F, A), action masks (B, A), seeds (B,)) to frames (B, F, 3, H, W) and
tokens (B, F, Nd), drawn from the policy as it is, each window's tokens under the context of the frame before it."""


class ContextTokens(Protocol):
    """An encoded context frame."""

    @property
    def tokens(self) -> Tensor:
        """Context tokens (B, Nc)."""

    def select(self, rows: Tensor) -> Self:
        """The contexts at `rows`."""


class ValueTokenizer(Protocol):
    """A frozen tokenizer whose codes are points of a grid."""

    def encode_context(self, frames: Tensor) -> Any:
        """Frames (B, 3, H, W) as Context."""

    def code_values(self, tokens: Tensor) -> Tensor:
        """The values (..., V) of codes (...)."""

    def decode_values(self, context: Any, values: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) of code values (B, F, Nd, V), with gradients to them."""
