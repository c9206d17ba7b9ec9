"""Rollouts of the policy in groups, over the whole horizon and in the windows of the decoding, as in evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from roboalign.reward.rewards import Rollouts
from roboalign.rl.interfaces import RolloutFn, ValueTokenizer
from roboalign.rl.prompts import Item


@dataclass(frozen=True)
class Window:
    """Predicted frames `start` to `stop` (exclusive) of all rollouts: one sequence of the policy under one context."""

    start: int
    stop: int
    context: Tensor
    """The tokens of the encoded frame before the window, (B, Nc + Nd)."""


@dataclass(frozen=True)
class PolicyRollouts:
    """P * G rollouts; row p * G + g is rollout g of prompt p."""

    rollouts: Rollouts
    tokens: Tensor
    """(B, F, Nd), the sampled dynamics tokens."""
    action_mask: Tensor
    """(B, A), true for the action dimensions that the source has."""
    windows: tuple[Window, ...]
    prompts: Tensor
    """(B,), number of each rollout's prompt."""
    group_size: int

    def sequence(self, window: Window, rows: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The policy's inputs for a window of `rows`: context tokens, dynamics tokens, actions and action masks."""
        frames = slice(window.start, window.stop)
        tokens, actions = self.tokens[rows, frames], self.rollouts.actions[rows, frames]
        return window.context[rows], tokens, actions, self.action_mask[rows]

    def by_group(self, values: Tensor) -> Tensor:
        """Reshape values (B, ...) to (P, G, ...)."""
        return values.view(-1, self.group_size, *values.shape[1:])


@torch.no_grad()
def sample_rollouts(
    batch: Item,
    instructions: Sequence[str],
    tasks: Sequence[tuple[str, str]],
    rollout: RolloutFn,
    tokenizer: ValueTokenizer,
    seeds: Tensor,
    *,
    group_size: int,
    segments: Sequence[tuple[int, int]],
    reward_seed: int | None = None,
    rows_at_once: int | None = None,
) -> PolicyRollouts:
    """Sample G rollouts of each of P prompts.

    Args:
        batch: The prompts.
        instructions: (P,).
        tasks: (source, task) of each prompt, (P,).
        rollout: Samples from the policy.
        tokenizer: Encodes the contexts of the windows.
        seeds: Seeds (P * G,) of the sampling.
        group_size: G.
        segments: Frames [start, stop) of each window of the decoding.
        reward_seed: See `Rollouts.seed`.
        rows_at_once: Rollouts whose contexts are encoded at a time; None for all.
    """
    targets = batch["frames"].repeat_interleave(group_size, 0)
    actions = batch["actions"].repeat_interleave(group_size, 0)
    mask = batch["action_mask"].repeat_interleave(group_size, 0)
    frames, tokens = rollout(targets[:, 0], actions, mask, seeds)
    videos = torch.cat([targets[:, :1], frames], 1)

    def context_tokens(frame: int) -> Tensor:
        parts = (tokenizer.encode_context(videos[rows, frame]).tokens for rows in _chunks(len(videos), rows_at_once))
        return torch.cat([*parts])

    windows = tuple(Window(start, stop, context_tokens(start)) for start, stop in segments)

    def repeat(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(value for value in values for _ in range(group_size))

    rollouts = Rollouts(videos, repeat(instructions), actions, targets, repeat(tasks), reward_seed)
    prompts = batch["prompt"].repeat_interleave(group_size)
    return PolicyRollouts(rollouts, tokens.clone(), mask, windows, prompts, group_size)


def value_gradients(
    batch: PolicyRollouts, tokenizer: ValueTokenizer, reward: Any, rows_at_once: int | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Rewards (B,) and, for each window, their gradients (B, frames, Nd, V) with respect to the sampled code values.

    Contexts are held constant: a window's tokens receive gradients from its own frames only. The gradients with respect
    to the pixels are taken for all rollouts, those through the decoder, whose activations are large, for `rows_at_once`
    rollouts of one window at a time (None for all).
    """
    videos = batch.rollouts.videos.detach()
    with torch.enable_grad():
        pixels = videos.clone().requires_grad_()
        rewards = reward(batch.rollouts.with_videos(pixels))
        (by_pixel,) = torch.autograd.grad(rewards.sum(), pixels)
    gradients = []
    for window in batch.windows:
        parts: list[Tensor] = []
        for rows in _chunks(len(videos), rows_at_once):
            with torch.no_grad():
                context = tokenizer.encode_context(videos[rows, window.start])
            with torch.enable_grad():
                values = tokenizer.code_values(batch.tokens[rows, window.start : window.stop]).float().requires_grad_()
                frames = tokenizer.decode_values(context, values)
                shown = by_pixel[rows, window.start + 1 : window.stop + 1]
                parts += torch.autograd.grad(frames, values, shown)
        gradients.append(torch.cat(parts))
    return rewards.detach(), gradients


def _chunks(count: int, size: int | None) -> Iterator[slice]:
    """The rows from 0 to `count`, `size` at a time; None takes all at once."""
    for start in range(0, count, size or count):
        yield slice(start, start + (size or count))
