"""Rollouts in progress: every decoding is a step-wise class, so that actions need not be known beforehand.

    decoder = build_decoder(SwrSpec(window=6), tokenizer, sampler, Start(frames, action_mask, seeds))
    tokens = decoder.step(action)                        # (B, Nd): the next frame of every row
    image = decoder.current_frame                        # (B, 3, H, W)
    futures = decoder.select(torch.tensor([0, 0, 0]), seeds)      # three futures of the first row

What a row shows depends on its first frame, actions and seed alone, whatever else is in the batch. Tokens are decoded
to pixels only when a decoding or the caller needs pixels, so that the tokenizer gets many frames at once.
"""

import copy
from abc import ABC, abstractmethod
from typing import Generic, Self

import torch
from torch import Tensor

from roboalign.rollout.costs import RolloutCosts
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Start


class Decoder(ABC, Generic[ContextT, StateT]):
    """B rollouts in progress under one decoding."""

    def __init__(self, tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], start: Start) -> None:
        self.tokenizer, self.sampler = tokenizer, sampler
        self.first_frame, self.action_mask, self.seeds = start.frames, start.action_mask, start.seeds
        self.proprioception = start.proprioception
        self.horizon = start.horizon
        self.frame = 0
        """Number of the next frame, from 0."""
        self.costs = RolloutCosts()
        self._latest = start.frames
        """The latest decoded frame of each row, (B, 3, H, W)."""

    def __len__(self) -> int:
        return len(self.seeds)

    @torch.no_grad()
    def step(self, action: Tensor) -> Tensor:
        """Draw the next frame under `action` (B, A) in [-1, 1], normalised by each source's range: tokens (B, Nd).

        Raises ValueError beyond the horizon.
        """
        if self.frame == self.horizon:
            raise ValueError(
                f"the rollout has room for {self.horizon} frames; start it with a larger horizon, or without one under "
                "a decoding with a window"
            )
        tokens = self._draw(action)
        self.costs.record_frame()
        self.frame += 1
        return tokens

    @property
    @torch.no_grad()
    def current_frame(self) -> Tensor:
        """The latest frame, (B, 3, H, W) in [0, 1]; before the first step, the first frame."""
        self._decode_pending()
        return self._latest

    @torch.no_grad()
    def take_frames(self) -> Tensor:
        """The frames drawn since the last call, (B, n, 3, H, W) in [0, 1]; they are not kept."""
        self._decode_pending()
        return self._take_decoded()

    @torch.no_grad()
    def select(self, rows: Tensor, seeds: Tensor | None = None) -> Self:
        """New rollouts that go on from the rows `rows` (N,), which may repeat; these stay as they are.

        Copies that are to differ under the same actions need `seeds` (N,) of their own. Frames that were not yet taken
        are left to the original. Raises ValueError on another number of seeds.
        """
        new_seeds = self.seeds[rows] if seeds is None else seeds
        if len(new_seeds) != len(rows):
            raise ValueError(f"{len(rows)} rollouts need as many seeds, got {len(new_seeds)}")
        self._decode_pending()
        selected = copy.copy(self)
        selected.costs = RolloutCosts()
        selected.first_frame, selected._latest = self.first_frame[rows], self._latest[rows]
        selected.action_mask, selected.seeds = self.action_mask[rows], new_seeds
        selected.proprioception = None if self.proprioception is None else self.proprioception[rows]
        selected._select_sequences(rows)
        return selected

    def _room(self, frames: int) -> int:
        """Frames that a sequence from here on needs room for: `frames`, or those left of the horizon if fewer."""
        return frames if self.horizon is None else min(frames, self.horizon - self.frame)

    @abstractmethod
    def _draw(self, action: Tensor) -> Tensor:
        """The tokens (B, Nd) of the next frame."""

    @abstractmethod
    def _decode_pending(self) -> None:
        """Decode the tokens that were drawn since the last call, and set `_latest`."""

    @abstractmethod
    def _take_decoded(self) -> Tensor:
        """The decoded frames that were not yet taken, (B, n, 3, H, W); forget them."""

    @abstractmethod
    def _select_sequences(self, rows: Tensor) -> None:
        """Replace contexts and sequences by those of `rows`; `self` is a copy whose `seeds` are the new ones."""


class SharedSegmentDecoder(Decoder[ContextT, StateT]):
    """Base of the decodings whose rows all have one context at a time, encoded at the same frame."""

    def __init__(self, tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], start: Start) -> None:
        super().__init__(tokenizer, sampler, start)
        self.age = 0
        """Frames since the sequence began."""
        self._pending: list[Tensor] = []
        """Tokens (B, Nd) under the present context that are not yet decoded."""
        self._decoded: list[Tensor] = []

    context: ContextT
    state: StateT

    def _begin(self, image: Tensor, frames: int, *, first_context: Tensor | None = None) -> None:
        """Encode `image` (B, 3, H, W) as the context of a new sequence with room for `frames` frames.

        `first_context` are the tokens of the rollout's first context, for a sampler of two contexts.
        """
        self.context = self.tokenizer.encode_context(image)
        self.state = self.sampler.start(
            self.context.tokens, self.action_mask, self.seeds, self._room(frames),
            first_frame=self.frame, initial_context=first_context,
            # Of predicted frames, which later contexts are, it is not known.
            proprioception=self.proprioception if self.frame == 0 else None,
        )  # fmt: skip
        self.age = 0

    @abstractmethod
    def _make_room(self) -> None:
        """Change the context or the cache if the next frame needs it."""

    def _draw(self, action: Tensor) -> Tensor:
        self._make_room()
        tokens = self.sampler.step(self.state, action)
        self.costs.record_state(self.state, len(self))
        self._pending.append(tokens)
        self.age += 1
        return tokens

    def _decode_pending(self) -> None:
        if self._pending:
            video = self.tokenizer.decode(self.context, torch.stack(self._pending, 1))
            self.costs.record_decoding(len(self._pending))
            self._decoded.append(video)
            self._latest = video[:, -1]
            self._pending = []

    def _take_decoded(self) -> Tensor:
        taken = torch.cat(self._decoded, 1) if self._decoded else self._latest[:, None][:, :0]
        self._decoded = []
        return taken

    def _select_sequences(self, rows: Tensor) -> None:
        self.context = self.context.select(rows)
        self.state = self.state.select(rows, self.seeds)
        self._pending, self._decoded = [], []
