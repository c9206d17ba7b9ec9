"""Protocols of the tokenizer and the sampler that rollouts take; stages pass in the real ones."""

from typing import Protocol, Self, TypeVar

from torch import Tensor


class TokenizedContext(Protocol):
    """An encoded context frame: `tokens` (B, Nc), and what else its tokenizer needs for decoding."""

    @property
    def tokens(self) -> Tensor:
        """Context tokens (B, Nc)."""

    def select(self, rows: Tensor) -> Self:
        """The contexts at `rows`, which may repeat."""


ContextT = TypeVar("ContextT", bound=TokenizedContext)


class FrameTokenizer(Protocol[ContextT]):
    """Pixels to tokens and back."""

    def encode_context(self, frames: Tensor) -> ContextT:
        """Frames (B, 3, H, W) as context."""

    def encode(self, context: ContextT, frames: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) as dynamics tokens (B, F, Nd), given the context."""

    def decode(self, context: ContextT, tokens: Tensor) -> Tensor:
        """Dynamics tokens (B, F, Nd) as frames (B, F, 3, H, W) in [0, 1]."""


class SequenceState(Protocol):
    """A world model's sequence so far, with its key-value cache."""

    @property
    def sequence_length(self) -> int:
        """Tokens in the sequence."""

    @property
    def cache_bytes(self) -> int:
        """Bytes of the key-value cache."""

    @property
    def entropy(self) -> Tensor:
        """Mean entropy in nats of the distributions that the last frame's tokens were drawn from, (B,)."""

    def select(self, rows: Tensor, seeds: Tensor) -> Self:
        """The sequences at `rows`, which may repeat, with new seeds; they share no memory with these."""


StateT = TypeVar("StateT", bound=SequenceState)


class FrameSampler(Protocol[StateT]):
    """Draws frames from a world model. Each row has its own random stream, independent of the rest of the batch."""

    def start(
        self,
        context_tokens: Tensor,
        action_mask: Tensor,
        seeds: Tensor,
        max_frames: int,
        *,
        first_frame: int = 0,
        displacement: Tensor | None = None,
        initial_context: Tensor | None = None,
        proprioception: Tensor | None = None,
    ) -> StateT:
        """A sequence of only the context, or of `initial_context`, that of the rollout's first frame, and the context.

        The random stream of the row starts at the absolute frame `first_frame`. `displacement` (B, A) is the sum of the
        actions between the context and the first frame to come, where there are any. `proprioception` (B, P) is what
        the robots measure of themselves at the context frame, NaN where unknown; None if all is unknown.
        """

    def step(self, state: StateT, action: Tensor) -> Tensor:
        """Draw the next frame (B, Nd), led to by `action` (B, A), and append it."""

    def drop(self, state: StateT, frames: int = 1) -> None:
        """Forget the oldest `frames` frames; the context stays."""

    def feed(self, state: StateT, actions: Tensor, tokens: Tensor) -> None:
        """Append known frames (B, F, Nd), led to by `actions` (B, F, A)."""
