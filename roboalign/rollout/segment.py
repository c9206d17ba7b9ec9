"""The common parts of all decodings: the prompt, the log of a rollout, and one segment under one context."""

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from roboalign.rollout.interfaces import Sampler, State, StateT


@dataclass(frozen=True)
class Prompt:
    """What a rollout starts from: B context frames, the actions that follow, and the rows' random seeds."""

    frames: Tensor
    """Context frames (B, 3, H, W) in [0, 1]."""
    actions: Tensor
    """(B, F, A): action t leads to predicted frame t (from 0)."""
    action_mask: Tensor
    """(B, A): which dimensions of the action the row's robot has."""
    seeds: Tensor
    """(B,): the seed of each row's random stream."""

    @property
    def horizon(self) -> int:
        """F, the number of frames to predict."""
        return int(self.actions.shape[1])

    def select(self, rows: Tensor) -> "Prompt":
        """The prompt of the rows of these numbers."""
        return Prompt(self.frames[rows], self.actions[rows], self.action_mask[rows], self.seeds[rows])

    def rows(self, rows: slice) -> "Prompt":
        """The prompt of some rows."""
        return Prompt(self.frames[rows], self.actions[rows], self.action_mask[rows], self.seeds[rows])


@dataclass
class Log:
    """What a rollout costs: the longest sequence, the largest cache, and the seconds of each frame."""

    peak_sequence: int = 0
    cache_bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    _begun: float = field(default_factory=time.perf_counter)

    def frame(self, state: State) -> None:
        """A frame was written to `state`; the time since the last mark is its time."""
        self.peak_sequence = max(self.peak_sequence, state.sequence_length)
        self.cache_bytes = max(self.cache_bytes, state.cache_bytes)
        self.seconds.append(self._lap())

    def spread(self, frames: int) -> None:
        """The time since the last mark was spent evenly on the latest `frames` frames (decoding them to pixels)."""
        share = self._lap() / frames
        self.seconds[-frames:] = [value + share for value in self.seconds[-frames:]]

    def segment(self, state: State, first: int, last: int) -> None:
        """Frames `first` to `last` (exclusive) of some rows were written to `state`; the time is spent evenly on them.

        For decodings whose rows go their own ways: what several groups of rows took for a frame adds up.
        """
        self.peak_sequence = max(self.peak_sequence, state.sequence_length)
        self.cache_bytes = max(self.cache_bytes, state.cache_bytes)
        self.seconds += [0.0] * (last - len(self.seconds))
        share = self._lap() / (last - first)
        self.seconds[first:last] = [value + share for value in self.seconds[first:last]]

    def _lap(self) -> float:
        # An accelerator runs on after a call returns; without waiting, its time would go to a later frame.
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        lap, self._begun = now - self._begun, now
        return lap


def write_segment(
    sampler: Sampler[StateT],
    context_tokens: Tensor,
    prompt: Prompt,
    first: int,
    last: int,
    log: Log,
    beginning: Tensor | None = None,
) -> Tensor:
    """Frames `first` to `last` (exclusive, from 0) drawn under one context and from nothing before: (B, F, Nd).

    `beginning` are the tokens of the context that the rollout began with, for a sampler of two contexts.
    """
    masks, seeds = prompt.action_mask, prompt.seeds
    state = sampler.start(context_tokens, masks, seeds, last - first, first_frame=first, beginning=beginning)
    tokens = []
    for frame in range(first, last):
        tokens.append(sampler.step(state, prompt.actions[:, frame]))
        log.frame(state)
    return torch.stack(tokens, 1)
