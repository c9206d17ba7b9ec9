"""The world model as a simulator to act in: reset, step, branch.

    simulator = Simulator(tokenizer, sampler, SwrSpec(window=6))
    world = simulator.reset(frames, action_mask, seeds)      # B first pictures
    picture = simulator.step(world, action)                  # (B, 3, H, W), the next ones
    worlds = simulator.branch(world, torch.tensor([0, 0, 0]), seeds)      # three futures of the first robot

Each row of a world is a robot of its own: what it shows follows from its picture, actions and seed, whatever else is in
the batch. A world under `ar` ends with the model's position limit; under a decoding with windows it goes on for ever.
"""

from dataclasses import dataclass
from typing import Generic, assert_never

import torch
from torch import Tensor

from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.spec import AnchoredSwrSpec, ArSpec, KvWindowSpec, SwrSpec, TwoContextsSwrSpec
from roboalign.rollout.swr import anchored

Endless = ArSpec | SwrSpec | AnchoredSwrSpec | TwoContextsSwrSpec | KvWindowSpec
"""Decodings that need neither the horizon nor the true frames beforehand."""


@dataclass
class World(Generic[ContextT, StateT]):
    """B robots in a simulator. `Simulator.step` changes it; `Simulator.branch` copies it."""

    beginning: Tensor
    """What they looked like when the world began, (B, 3, H, W) in [0, 1]."""
    picture: Tensor
    """What they look like now."""
    action_mask: Tensor
    """(B, A): which action dimensions each robot has."""
    seeds: Tensor
    """(B,): the seed of each robot's random stream."""
    frame: int
    """Number of the next frame, from 0."""
    context: ContextT
    state: StateT
    """The context and the sequence since it was encoded."""
    age: int
    """Frames since then."""

    def __len__(self) -> int:
        return len(self.seeds)


class Simulator(Generic[ContextT, StateT]):
    """Steps worlds by a tokenizer, a world model's sampler and a decoding."""

    def __init__(
        self,
        tokenizer: Tokenizer[ContextT],
        sampler: Sampler[StateT],
        decoding: Endless,
        *,
        longest: int = 30,
    ) -> None:
        """`longest` is how many frames `ar` has room for."""
        self._tokenizer, self._sampler, self._decoding = tokenizer, sampler, decoding
        match decoding:
            case ArSpec():
                self._room = longest
            case SwrSpec() | AnchoredSwrSpec() | TwoContextsSwrSpec():
                self._room = decoding.window
            case KvWindowSpec():
                self._room = decoding.frames
            case _:
                assert_never(decoding)

    @torch.no_grad()
    def reset(self, frames: Tensor, action_mask: Tensor, seeds: Tensor) -> World[ContextT, StateT]:
        """A new world that begins with pictures (B, 3, H, W) in [0, 1]; masks (B, A) and seeds (B,)."""
        context = self._tokenizer.encode_context(frames)
        state = self._sampler.start(context.tokens, action_mask, seeds, self._room)
        return World(frames, frames, action_mask, seeds, 0, context, state, 0)

    @torch.no_grad()
    def step(self, world: World[ContextT, StateT], action: Tensor) -> Tensor:
        """Act: (B, A) in [-1, 1], normalised by each source's range. The next pictures (B, 3, H, W) in [0, 1].

        Raises ValueError where `ar` has no room for another frame.
        """
        if world.age == self._room:
            match self._decoding:
                case ArSpec():
                    raise ValueError(
                        f"plain autoregression has room for {self._room} frames; raise `longest`, or take swr"
                    )
                case SwrSpec():
                    self._refresh(world, world.picture)
                case AnchoredSwrSpec():
                    refresh = anchored(world.beginning, self._decoding.threshold)
                    self._refresh(world, refresh(world.picture, world.frame))
                case TwoContextsSwrSpec():
                    self._refresh(world, world.picture, self._tokenizer.encode_context(world.beginning).tokens)
                case KvWindowSpec():
                    self._sampler.drop(world.state)
                    world.age -= 1
                case _:
                    assert_never(self._decoding)
        tokens = self._sampler.step(world.state, action)
        world.picture = self._tokenizer.decode(world.context, tokens[:, None])[:, 0]
        world.frame += 1
        world.age += 1
        return world.picture

    def _refresh(self, world: World[ContextT, StateT], picture: Tensor, beginning: Tensor | None = None) -> None:
        """Begin a segment with `picture` (B, 3, H, W) as the context, and `beginning` as the tokens of the first."""
        world.context = self._tokenizer.encode_context(picture)
        world.state = self._sampler.start(
            world.context.tokens, world.action_mask, world.seeds, self._room,
            first_frame=world.frame, beginning=beginning,
        )  # fmt: skip
        world.age = 0

    @torch.no_grad()
    def branch(
        self, world: World[ContextT, StateT], rows: Tensor, seeds: Tensor | None = None
    ) -> World[ContextT, StateT]:
        """A new world of the robots `rows` (N,), which may repeat; the given one stays as it is.

        Copies that are to differ under the same actions need `seeds` (N,) of their own.
        """
        chosen = world.seeds[rows] if seeds is None else seeds
        if len(chosen) != len(rows):
            raise ValueError(f"{len(rows)} branches need as many seeds, got {len(chosen)}")
        state = world.state.select(rows, chosen)
        return World(
            world.beginning[rows], world.picture[rows], world.action_mask[rows], chosen, world.frame,
            world.context.select(rows), state, world.age,
        )  # fmt: skip
