"""From a decoding's spec to its step-wise class."""

from typing import assert_never

from torch import Tensor

from roboalign.rollout.ar import ArDecoder
from roboalign.rollout.carry_tokens import CarryTokensDecoder
from roboalign.rollout.decoder import Decoder
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.kv_window import KvWindowDecoder
from roboalign.rollout.prompt import Start
from roboalign.rollout.spec import (
    AnchoredSwrSpec,
    ArSpec,
    CarryTokensSpec,
    EntropySwrSpec,
    FixedDecodingSpec,
    KvWindowSpec,
    SwrSpec,
    TrueRefreshSpec,
    TwoContextsSwrSpec,
)
from roboalign.rollout.swr import SwrDecoder
from roboalign.rollout.swr_anchored import AnchoredSwrDecoder
from roboalign.rollout.swr_entropy import EntropySwrDecoder
from roboalign.rollout.swr_two_contexts import TwoContextsSwrDecoder
from roboalign.rollout.true_refresh import TrueRefreshDecoder


def build_decoder(
    spec: FixedDecodingSpec,
    tokenizer: FrameTokenizer[ContextT],
    sampler: FrameSampler[StateT],
    start: Start,
    truth: Tensor | None = None,
) -> Decoder[ContextT, StateT]:
    """Rollouts that begin at `start`, under the decoding `spec`.

    `truth` (B, F, 3, H, W), the true future, is only for a decoding that `sees_true_frames`. Raises ValueError if such
    a decoding gets none, and if a decoding needs a horizon and `start` has none.
    """
    match spec:
        case ArSpec():
            return ArDecoder(tokenizer, sampler, start)
        case SwrSpec():
            return SwrDecoder(tokenizer, sampler, start, spec.window)
        case AnchoredSwrSpec():
            return AnchoredSwrDecoder(tokenizer, sampler, start, spec.window, spec.threshold)
        case TwoContextsSwrSpec():
            return TwoContextsSwrDecoder(tokenizer, sampler, start, spec.window)
        case EntropySwrSpec():
            return EntropySwrDecoder(tokenizer, sampler, start, spec)
        case KvWindowSpec():
            return KvWindowDecoder(tokenizer, sampler, start, spec.frames)
        case CarryTokensSpec():
            return CarryTokensDecoder(tokenizer, sampler, start, spec.window)
        case TrueRefreshSpec():
            return TrueRefreshDecoder(tokenizer, sampler, start, spec.window, truth)
        case _:
            assert_never(spec)
