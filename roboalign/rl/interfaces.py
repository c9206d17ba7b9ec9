"""What alignment needs of its neighbours; the stage passes the real ones in."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from torch import Tensor

Draw = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""(context tokens (P, Nc), actions (P, F, A), action mask (P, A), seeds (P * G,), G) -> tokens (P * G, F, Nd), drawn at
the temperature of the spec; row p * G + g is rollout g of prompt p."""

Reward = Callable[[Tensor, Sequence[str], Tensor], Tensor]
"""(videos (B, T, 3, H, W), instructions, true futures (B, T, 3, H, W)) -> (B,)."""

PromptReward = Callable[[Sequence[int], Tensor, Tensor], Tensor]
"""(numbers of prompts, videos (B, T, 3, H, W), true futures (B, T, 3, H, W)) -> (B,), NaN where it knows nothing: what
needs to know which episode a prompt is of."""

Score = Callable[[Tensor, Sequence[str]], Tensor]
"""(videos (B, T, 3, H, W), instructions) -> raw scores (B, D)."""


class Context(Protocol):
    """An encoded context frame."""

    @property
    def tokens(self) -> Tensor:
        """Context tokens (B, Nc)."""

    def repeat(self, n: int) -> Self:
        """Each context `n` times in a row."""


class Tokenizer(Protocol):
    """Pixels to tokens and back; frozen."""

    def encode_context(self, frames: Tensor) -> Context:
        """Frames (B, 3, H, W) as context."""

    def decode(self, context: Any, tokens: Tensor) -> Tensor:
        """Dynamics tokens (B, F, Nd) as frames (B, F, 3, H, W) in [0, 1]; `context` is what `encode_context` gave."""
