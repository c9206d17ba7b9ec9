"""The figures that drift.py reasons with, measured on a world model and its tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.segment import Prompt

Floats = NDArray[np.float64]


def rmse(video: Tensor, target: Tensor) -> Tensor:
    """The root mean squared pixel difference of each frame, (B, T), of videos (B, T, 3, H, W)."""
    return (video - target).square().mean((2, 3, 4)).sqrt()


@dataclass(frozen=True)
class Truth:
    """The true future under the context frame of the prompt."""

    frames: Tensor
    """(B, F, 3, H, W)."""
    tokens: Tensor
    """Its dynamics tokens (B, F, Nd)."""
    reconstruction: Tensor
    """Those tokens decoded, (B, F, 3, H, W)."""


@torch.no_grad()
def encode_truth(tokenizer: Tokenizer[ContextT], prompt: Prompt, frames: Tensor) -> Truth:
    """The true frames (B, F, 3, H, W) through the tokenizer."""
    context = tokenizer.encode_context(prompt.frames)
    tokens = tokenizer.encode(context, frames)
    return Truth(frames, tokens, tokenizer.decode(context, tokens))


@torch.no_grad()
def from_truth(
    tokenizer: Tokenizer[ContextT], sampler: Sampler[StateT], prompt: Prompt, truth: Truth, start: int, steps: int
) -> Tensor:
    """`steps` frames drawn after `start` frames of true tokens, (B, steps, 3, H, W)."""
    context = tokenizer.encode_context(prompt.frames)
    state = sampler.start(context.tokens, prompt.action_mask, prompt.seeds, start + steps)
    if start:
        sampler.feed(state, prompt.actions[:, :start], truth.tokens[:, :start])
    drawn = [sampler.step(state, prompt.actions[:, start + step]) for step in range(steps)]
    return tokenizer.decode(context, torch.stack(drawn, 1))


def one_step_errors(
    tokenizer: Tokenizer[ContextT], sampler: Sampler[StateT], prompt: Prompt, truth: Truth, ages: Sequence[int]
) -> Floats:
    """The error of frame n predicted from the true tokens of all frames before it, (B, ages), for n in `ages`."""
    columns = []
    for age in ages:
        frame = from_truth(tokenizer, sampler, prompt, truth, age - 1, 1)
        columns.append(rmse(frame, truth.frames[:, age - 1 : age])[:, 0])
    return torch.stack(columns, 1).double().cpu().numpy()


def divergences(
    tokenizer: Tokenizer[ContextT],
    sampler: Sampler[StateT],
    prompt: Prompt,
    truth: Truth,
    autoregressive: Tensor,
    starts: Sequence[int],
    steps: int,
) -> Floats:
    """How far rollouts that leave the truth after `starts` frames lie from the autoregressive one, (pairs, steps).

    Both run under the same actions and the same sampling noise. `autoregressive` is (B, F, 3, H, W).
    """
    pairs = []
    for start in starts:
        other = from_truth(tokenizer, sampler, prompt, truth, start, steps)
        pairs.append(rmse(other, autoregressive[:, start : start + steps]))
    return torch.cat(pairs).double().cpu().numpy()


@torch.no_grad()
def refresh_errors(tokenizer: Tokenizer[ContextT], frames: Tensor) -> Floats:
    """delta of each frame (B, T, 3, H, W): its distance to itself encoded as a context and decoded under it, (B·T,)."""
    flat = frames.flatten(0, 1)
    context = tokenizer.encode_context(flat)
    again = tokenizer.decode(context, tokenizer.encode(context, flat[:, None]))
    return rmse(again, flat[:, None])[:, 0].double().cpu().numpy()
