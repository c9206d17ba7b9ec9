"""Measurement of epsilon, delta and alpha of drift.py on a world model and its tokenizer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.rollout.drift import best_window, contraction, epsilon, every_age, predicted_error
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.spec import DriftSpec
from roboalign.video import quantise

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
    """The decoded frames of these tokens, (B, F, 3, H, W)."""


@torch.no_grad()
def encode_truth(tokenizer: FrameTokenizer[ContextT], prompt: Prompt, frames: Tensor) -> Truth:
    """The true frames (B, F, 3, H, W) through the tokenizer."""
    context = tokenizer.encode_context(prompt.frames)
    tokens = tokenizer.encode(context, frames)
    return Truth(frames, tokens, tokenizer.decode(context, tokens))


@torch.no_grad()
def predict_from_truth(
    tokenizer: FrameTokenizer[ContextT],
    sampler: FrameSampler[StateT],
    prompt: Prompt,
    truth: Truth,
    start: int,
    steps: int,
) -> Tensor:
    """`steps` frames drawn after `start` frames of true tokens, (B, steps, 3, H, W)."""
    context = tokenizer.encode_context(prompt.frames)
    state = sampler.start(
        context.tokens, prompt.action_mask, prompt.seeds, start + steps, proprioception=prompt.proprioception
    )
    if start:
        sampler.feed(state, prompt.actions[:, :start], truth.tokens[:, :start])
    drawn = [sampler.step(state, prompt.actions[:, start + step]) for step in range(steps)]
    return tokenizer.decode(context, torch.stack(drawn, 1))


def one_step_errors(
    tokenizer: FrameTokenizer[ContextT],
    sampler: FrameSampler[StateT],
    prompt: Prompt,
    truth: Truth,
    ages: Sequence[int],
) -> Floats:
    """The error of frame n predicted from the true tokens of all frames before it, (B, ages), for n in `ages`."""
    columns = []
    for age in ages:
        frame = predict_from_truth(tokenizer, sampler, prompt, truth, age - 1, 1)
        columns.append(rmse(frame, truth.frames[:, age - 1 : age])[:, 0])
    return torch.stack(columns, 1).double().cpu().numpy()


def divergences(
    tokenizer: FrameTokenizer[ContextT],
    sampler: FrameSampler[StateT],
    prompt: Prompt,
    truth: Truth,
    autoregressive: Tensor,
    starts: Sequence[int],
    steps: int,
    stored: bool = False,
) -> Floats:
    """Distances of rollouts that leave the truth after `starts` frames from the autoregressive one, (pairs, steps).

    Both have the same actions and the same sampling noise. `autoregressive` is (B, F, 3, H, W). With `stored`, its
    frames were stored, that is rounded to 8 bits, and so are those of the others: equal rollouts have a distance of 0.
    """
    pairs = []
    for start in starts:
        other = predict_from_truth(tokenizer, sampler, prompt, truth, start, steps)
        other = quantise(other) if stored else other
        pairs.append(rmse(other, autoregressive[:, start : start + steps]))
    return torch.cat(pairs).double().cpu().numpy()


@torch.no_grad()
def refresh_errors(tokenizer: FrameTokenizer[ContextT], frames: Tensor) -> Floats:
    """delta of each frame (B, T, 3, H, W): its distance to itself encoded as a context and decoded under it, (B·T,).

    B frames are encoded at a time: an encoded context is a hundred times as large as its frame.
    """
    errors = []
    for image in frames.unbind(1):
        context = tokenizer.encode_context(image)
        again = tokenizer.decode(context, tokenizer.encode(context, image[:, None]))
        errors.append(rmse(again, image[:, None])[:, 0])
    return torch.stack(errors, 1).flatten().double().cpu().numpy()


@dataclass(frozen=True)
class ErrorGrowth:
    """Parameters of the error growth of a model, in the symbols of drift.py."""

    at_ages: Mapping[int, float]
    """epsilon(n) at the ages where it was measured."""
    error: Floats
    """epsilon(n) for ages n = 1 … T, linear between those."""
    floor: Floats
    """The codec's error for ages n = 1 … T, (T,)."""
    delta: float
    """The error that a refresh adds."""
    alpha: float | None
    """Factor by which an error changes in one frame; None if the paired rollouts became equal."""

    def predicted_errors(self) -> dict[int, float]:
        """The mean error of every window from 1 to T, by the recursion; an alpha of None counts as 0."""
        alpha, horizon = self.alpha or 0.0, self.error.size
        return {w: predicted_error(w, alpha, self.error, self.floor, self.delta) for w in range(1, horizon + 1)}

    def window(self) -> int:
        """The window with the smallest predicted error."""
        return best_window(self.predicted_errors())


def measure_error_growth(
    tokenizer: FrameTokenizer[ContextT],
    sampler: FrameSampler[StateT],
    batches: Iterable[tuple[Prompt, Tensor, Tensor]],
    spec: DriftSpec,
    window: int,
    stored: bool = False,
) -> ErrorGrowth:
    """Measure over batches of prompts with their true futures and autoregressive rollouts, (B, F, 3, H, W) each.

    delta is that of refreshes every `window` frames. `stored` as in `divergences`.
    """
    one_step, floors, pairs, refreshed = [], [], [], []
    for prompt, future, plain in batches:
        truth = encode_truth(tokenizer, prompt, future)
        floors.append(rmse(truth.reconstruction, truth.frames).double().cpu().numpy())
        one_step.append(one_step_errors(tokenizer, sampler, prompt, truth, spec.ages))
        pairs.append(divergences(tokenizer, sampler, prompt, truth, plain, spec.starts, spec.steps, stored))
        refreshed.append(refresh_errors(tokenizer, plain[:, window - 1 :: window]))
    floor = np.concatenate(floors).mean(0)
    measured = epsilon(np.concatenate(one_step).mean(0), floor[[age - 1 for age in spec.ages]])
    at_ages = dict(zip(spec.ages, map(float, measured), strict=True))
    alpha, delta = contraction(np.concatenate(pairs)), float(np.concatenate(refreshed).mean())
    return ErrorGrowth(at_ages, every_age(at_ages, floor.size), floor, delta, alpha)
