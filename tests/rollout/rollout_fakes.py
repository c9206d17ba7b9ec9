"""A tokenizer and a world model of which everything is known: pictures of one grey level, drawn by arithmetic.

A picture of level v is the context token v and, under a context of level c, the dynamics token v - c + 1000. The world
model moves the level by the action, plus `drift` for each frame that its context is old, plus `noise` of the row's
stream at the absolute frame. Levels are in 1/1000.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from roboalign.metrics.perceptual_distance import Maps

SCALE = 1000


def picture(levels: Tensor) -> Tensor:
    """Levels (...) as pictures (..., 3, 4, 4)."""
    return (levels.float() / SCALE)[..., None, None, None].expand(*levels.shape, 3, 4, 4)


def level(frames: Tensor) -> Tensor:
    """Pictures (..., 3, H, W) as levels (...)."""
    return (frames.mean((-3, -2, -1)) * SCALE).round().long()


@dataclass
class ToyContext:
    tokens: Tensor

    def select(self, rows: Tensor) -> "ToyContext":
        return ToyContext(self.tokens[rows])


@dataclass
class ToyTokenizer:
    """`loss` is what every context encoding adds to the level: delta."""

    loss: int = 0
    encoded: int = 0

    def encode_context(self, frames: Tensor) -> ToyContext:
        self.encoded += 1
        return ToyContext((level(frames) + self.loss)[:, None])

    def encode(self, context: ToyContext, frames: Tensor) -> Tensor:
        return (level(frames) + self.loss - context.tokens + SCALE)[..., None]

    def decode(self, context: ToyContext, tokens: Tensor) -> Tensor:
        return picture(tokens[..., 0] - SCALE + context.tokens)


@dataclass
class ToyState:
    context: Tensor
    seeds: Tensor
    tokens: list[Tensor]
    frame: int
    capacity: int
    age: int = 0

    @property
    def entropy(self) -> Tensor:
        """The age of the sequence, squared in rows of an odd seed."""
        return self.age ** (1.0 + self.seeds % 2)

    @property
    def sequence_length(self) -> int:
        return 1 + 2 * len(self.tokens)

    @property
    def cache_bytes(self) -> int:
        return 8 * len(self.seeds) * (1 + 2 * self.capacity)

    def select(self, rows: Tensor, seeds: Tensor) -> "ToyState":
        tokens = [each[rows] for each in self.tokens]
        return ToyState(self.context[rows], seeds, tokens, self.frame, self.capacity, self.age)


@dataclass
class ToySampler:
    drift: int = 0
    noisy: bool = False
    initial_contexts: list[Tensor | None] = field(default_factory=list)
    """The `initial_context` of each start."""
    proprioceptions: list[Tensor | None] = field(default_factory=list)
    """The `proprioception` of each start."""

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
    ) -> ToyState:
        self.initial_contexts.append(initial_context)
        self.proprioceptions.append(proprioception)
        return ToyState(context_tokens, seeds, [], first_frame, max_frames)

    def step(self, state: ToyState, action: Tensor) -> Tensor:
        last = state.tokens[-1] if state.tokens else torch.full_like(state.context, SCALE)
        state.age += 1
        drawn = last + (action[:, :1] * SCALE).round().long() + self.drift * state.age
        if self.noisy:
            drawn = drawn + ((state.seeds * 31 + state.frame * 17) % 7)[:, None]
        self.append(state, drawn)
        return drawn

    def append(self, state: ToyState, tokens: Tensor) -> None:
        if len(state.tokens) == state.capacity:
            raise ValueError("full")
        state.tokens.append(tokens)
        state.frame += 1

    def feed(self, state: ToyState, actions: Tensor, tokens: Tensor) -> None:
        for frame in tokens.unbind(1):
            self.append(state, frame)
            state.age += 1

    def drop(self, state: ToyState, frames: int = 1) -> None:
        del state.tokens[:frames]


class PixelDistance:
    """A distance that sees pixels, and takes their mean absolute difference."""

    def maps(self, video: Tensor) -> Maps:
        return Maps((video,), (video.shape[-2], video.shape[-1]))

    def between(self, ours: Maps, theirs: Maps, weights: Tensor | None = None) -> Tensor:
        error = (ours.layers[0] - theirs.layers[0]).abs().mean(2)
        return error.mean((-2, -1)) if weights is None else (error * weights).sum((-2, -1)) / weights.sum((-2, -1))
