"""Rollouts of the policy in groups, over the whole horizon and in the windows of the decoding, as in evaluation."""

from collections.abc import Sequence
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
    context: Any
    """The encoded frame before the window."""


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
        return window.context.tokens[rows], tokens, actions, self.action_mask[rows]

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
    """
    targets = batch["frames"].repeat_interleave(group_size, 0)
    actions = batch["actions"].repeat_interleave(group_size, 0)
    mask = batch["action_mask"].repeat_interleave(group_size, 0)
    frames, tokens = rollout(targets[:, 0], actions, mask, seeds)
    videos = torch.cat([targets[:, :1], frames], 1)
    windows = tuple(Window(start, stop, tokenizer.encode_context(videos[:, start])) for start, stop in segments)

    def repeat(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(value for value in values for _ in range(group_size))

    rollouts = Rollouts(videos, repeat(instructions), actions, targets, repeat(tasks), reward_seed)
    prompts = batch["prompt"].repeat_interleave(group_size)
    return PolicyRollouts(rollouts, tokens.clone(), mask, windows, prompts, group_size)


def value_gradients(batch: PolicyRollouts, tokenizer: ValueTokenizer, reward: Any) -> tuple[Tensor, list[Tensor]]:
    """Rewards (B,) and, for each window, their gradients (B, frames, Nd, V) with respect to the sampled code values.

    Contexts are held constant: a window's tokens receive gradients from its own frames only.
    """
    with torch.enable_grad():
        values = [
            tokenizer.code_values(batch.tokens[:, w.start : w.stop]).float().requires_grad_() for w in batch.windows
        ]
        frames = [tokenizer.decode_values(w.context, v) for w, v in zip(batch.windows, values, strict=True)]
        videos = torch.cat([batch.rollouts.videos[:, :1], *frames], 1)
        rewards = reward(batch.rollouts.with_videos(videos))
        gradients = torch.autograd.grad(rewards.sum(), values)
    return rewards.detach(), list(gradients)
