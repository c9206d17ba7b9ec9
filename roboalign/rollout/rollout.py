"""One rollout by any decoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from roboalign.rollout.build import build_decoder
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.spec import FixedDecodingSpec


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


def join_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """The rollouts of several batches as one; seconds add up."""
    return Rollout(
        torch.cat([part.frames for part in parts]),
        torch.cat([part.tokens for part in parts]),
        max(part.peak_sequence for part in parts),
        max(part.cache_bytes for part in parts),
        tuple(sum(values) for values in zip(*(part.seconds_per_frame for part in parts), strict=True)),
    )
