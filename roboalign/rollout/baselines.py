"""Baseline videos that need no world model. Truth is (B, 1 + F, 3, H, W), float or uint8, context frame first."""

import torch
from torch import Tensor

from roboalign.rollout.interfaces import ContextT, FrameTokenizer


@torch.no_grad()
def reconstruction(tokenizer: FrameTokenizer[ContextT], truth: Tensor) -> Tensor:
    """The true frames (float) through the tokenizer and back, under the context frame: a world model's ceiling."""
    context = tokenizer.encode_context(truth[:, 0])
    return torch.cat([truth[:, :1], tokenizer.decode(context, tokenizer.encode(context, truth[:, 1:]))], 1)


def copy_context(truth: Tensor) -> Tensor:
    """The context frame, repeated."""
    return truth[:, :1].expand_as(truth)


def copy_last(truth: Tensor) -> Tensor:
    """Each frame predicted by the *true* frame before it."""
    return torch.cat([truth[:, :1], truth[:, :-1]], 1)
