"""One rollout by any decoding, and many rollouts as they are kept."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from roboalign.rollout.build import build_decoder
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.spec import FixedDecodingSpec
from roboalign.video import allocate_video, to_uint8


@dataclass(frozen=True)
class Rollout:
    """B rollouts of F frames and what they cost."""

    frames: Tensor
    """(B, 1 + F, 3, H, W) in [0, 1]; the context frame leads."""
    tokens: Tensor
    """(B, F, Nd) as drawn; under SWR each segment's tokens belong to its own context."""
    peak_sequence: int
    """Tokens of the longest sequence."""
    cache_bytes: int
    """Largest key-value cache of one row, in bytes."""
    seconds_per_frame: tuple[float, ...]
    """Wall-clock seconds of each frame of the whole batch: drawing, decoding, re-encoding."""


@torch.no_grad()
def rollout(
    decoding: FixedDecodingSpec,
    tokenizer: FrameTokenizer[ContextT],
    sampler: FrameSampler[StateT],
    prompt: Prompt,
    truth: Tensor | None = None,
) -> Rollout:
    """Roll `prompt` out to its horizon. See `build_decoder` for `truth` (B, F, 3, H, W)."""
    decoder = build_decoder(decoding, tokenizer, sampler, prompt.start, truth if decoding.sees_true_frames else None)
    tokens = torch.stack([decoder.step(action) for action in prompt.actions.unbind(1)], 1)
    frames = torch.cat([prompt.frames[:, None], decoder.take_frames()], 1)
    costs = decoder.costs
    return Rollout(frames, tokens, costs.peak_sequence, costs.cache_bytes, tuple(costs.seconds))


@dataclass(frozen=True)
class StoredRollout:
    """N rollouts, their frames as they are stored in clips; the other fields are those of `Rollout`."""

    frames: Tensor
    """(N, 1 + F, 3, H, W), uint8 on the CPU; the context frame leads."""
    tokens: Tensor
    """(N, F, Nd), on the CPU."""
    peak_sequence: int
    cache_bytes: int
    seconds_per_frame: tuple[float, ...]

    @classmethod
    def of(cls, made: Rollout) -> "StoredRollout":
        """The stored form of a rollout."""
        return cls(
            to_uint8(made.frames).cpu(), made.tokens.cpu(), made.peak_sequence, made.cache_bytes,
            made.seconds_per_frame,
        )  # fmt: skip


def join_rollouts(parts: Iterable[StoredRollout], count: int, folder: Path | None = None) -> StoredRollout:
    """The rollouts of several batches, `count` in all, as one; seconds add up.

    Only one batch is in memory if a `folder` is given: the frames lie in a file there (`allocate_video`).
    """
    frames, tokens, done = torch.empty(0), [], 0
    peak, cache, seconds = 0, 0, list[tuple[float, ...]]()
    for part in parts:
        if not done:
            frames = allocate_video((count, *part.frames.shape[1:]), folder)
        frames[done : done + len(part.frames)] = part.frames
        done += len(part.frames)
        tokens.append(part.tokens)
        peak, cache = max(peak, part.peak_sequence), max(cache, part.cache_bytes)
        seconds.append(part.seconds_per_frame)
    return StoredRollout(frames, torch.cat(tokens), peak, cache, tuple(map(sum, zip(*seconds, strict=True))))
