"""One rollout by any decoding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from roboalign.rollout.ar import ar
from roboalign.rollout.carry_tokens import carry_tokens
from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.kv_window import kv_window
from roboalign.rollout.segment import Log, Prompt
from roboalign.rollout.spec import (
    AnchoredSwrSpec,
    ArSpec,
    CarryTokensSpec,
    DecodingSpec,
    EntropySwrSpec,
    KvWindowSpec,
    SwrSpec,
    TrueRefreshSpec,
    TwoContextsSwrSpec,
)
from roboalign.rollout.swr import anchored, swr, true_frame
from roboalign.rollout.swr_entropy import swr_entropy


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
    decoding: DecodingSpec,
    tokenizer: Tokenizer[ContextT],
    sampler: Sampler[StateT],
    prompt: Prompt,
    truth: Tensor | None = None,
) -> Rollout:
    """Roll `prompt` out to its horizon. `truth` (B, F, 3, H, W) is needed by, and only shown to, `true_refresh`.

    Raises ValueError where `true_refresh` is not given the true frames.
    """
    log = Log()
    match decoding:
        case ArSpec():
            frames, tokens = ar(tokenizer, sampler, prompt, log)
        case SwrSpec():
            frames, tokens = swr(tokenizer, sampler, prompt, decoding.window, log)
        case AnchoredSwrSpec():
            refresh = anchored(prompt.frames, decoding.threshold)
            frames, tokens = swr(tokenizer, sampler, prompt, decoding.window, log, refresh)
        case TwoContextsSwrSpec():
            frames, tokens = swr(tokenizer, sampler, prompt, decoding.window, log, both=True)
        case EntropySwrSpec():
            frames, tokens = swr_entropy(tokenizer, sampler, prompt, decoding, log)
        case KvWindowSpec():
            frames, tokens = kv_window(tokenizer, sampler, prompt, decoding.frames, log)
        case CarryTokensSpec():
            frames, tokens = carry_tokens(tokenizer, sampler, prompt, decoding.window, log)
        case TrueRefreshSpec():
            if truth is None:
                raise ValueError("true_refresh needs the true frames; pass `truth`")
            frames, tokens = swr(tokenizer, sampler, prompt, decoding.window, log, true_frame(truth))
        case _:
            assert_never(decoding)
    return Rollout(
        torch.cat([prompt.frames[:, None], frames], 1),
        tokens,
        log.peak_sequence,
        log.cache_bytes // len(prompt.seeds),
        tuple(log.seconds),
    )


def joined(parts: Sequence[Rollout]) -> Rollout:
    """The rollouts of several batches as one; seconds add up."""
    return Rollout(
        torch.cat([part.frames for part in parts]),
        torch.cat([part.tokens for part in parts]),
        max(part.peak_sequence for part in parts),
        max(part.cache_bytes for part in parts),
        tuple(sum(values) for values in zip(*(part.seconds_per_frame for part in parts), strict=True)),
    )
