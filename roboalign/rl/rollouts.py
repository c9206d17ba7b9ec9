"""Rollouts of the policy in groups, over the whole horizon and in the windows of the decoding, as in evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from roboalign.reward.rewards import Reward, Rollouts
from roboalign.rl.interfaces import RolloutFn, ValueTokenizer
from roboalign.rl.prompts import Item


@dataclass(frozen=True)
class Window:
    """Predicted frames `start` to `stop` (exclusive) of all rollouts: one sequence of the policy under one context."""

    start: int
    stop: int
    context: Tensor
    """The tokens of the encoded frame before the window, (B, Nc + Nd); of the first window, where it is the recorded
    frame of the prompt, (P, Nc + Nd)."""


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
        """The policy's inputs for a window of `rows`: context tokens, dynamics tokens, actions and action masks.

        Rows of whole groups, or of one group, that have one context share it: the context tokens then have fewer rows.
        """
        frames = slice(window.start, window.stop)
        tokens, actions = self.tokens[rows, frames], self.rollouts.actions[rows, frames]
        return self._contexts(window, rows), tokens, actions, self.action_mask[rows]

    def _contexts(self, window: Window, rows: slice) -> Tensor:
        """The context tokens of `rows` of a window, one row for each group if they can be shared."""
        count, size = len(self.tokens), self.group_size
        if len(window.context) == count:
            return window.context[rows]
        start, stop, _ = rows.indices(count)
        first, last = start // size, -(-stop // size)
        if last - first == 1 or start % size == stop % size == 0:
            return window.context[first:last]
        return window.context[torch.arange(start, stop, device=window.context.device) // size]

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
    parts: int = 1,
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
        parts: Number of parts in which rollouts are sampled and contexts encoded, to bound the memory.
    """
    targets = batch["frames"].repeat_interleave(group_size, 0)
    actions = batch["actions"].repeat_interleave(group_size, 0)
    mask = batch["action_mask"].repeat_interleave(group_size, 0)
    videos, sampled = targets.clone(), list[Tensor]()
    for rows in split_rows(len(videos), parts):
        videos[rows, 1:], tokens = rollout(targets[rows, 0], actions[rows], mask[rows], seeds[rows])
        sampled.append(tokens)

    def context_tokens(frame: int) -> Tensor:
        before = videos[:, frame] if frame else batch["frames"][:, 0]
        return torch.cat([tokenizer.encode_context(before[rows]).tokens for rows in split_rows(len(before), parts)])

    windows = tuple(Window(start, stop, context_tokens(start)) for start, stop in segments)

    def repeat(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(value for value in values for _ in range(group_size))

    rollouts = Rollouts(videos, repeat(instructions), actions, targets, repeat(tasks), reward_seed)
    prompts = batch["prompt"].repeat_interleave(group_size)
    return PolicyRollouts(rollouts, torch.cat(sampled), mask, windows, prompts, group_size)


def value_gradients(
    batch: PolicyRollouts, tokenizer: ValueTokenizer, reward: Reward, parts: int = 1, reward_parts: int = 1
) -> tuple[Tensor, list[Tensor]]:
    """Rewards (B,) and, for each window, their gradients (B, frames, Nd, V) with respect to the sampled code values.

    Contexts are held constant: a window's tokens receive gradients from its own frames only. The rollouts go through
    the reward in `reward_parts` parts, and through the decoder, whose activations are larger, in `parts` parts of one
    window.
    """
    videos, rewards, by_pixel = batch.rollouts.videos.detach(), list[Tensor](), list[Tensor]()
    for rows in split_rows(len(videos), reward_parts):
        with torch.enable_grad():
            pixels = videos[rows].clone().requires_grad_()
            value = reward(batch.rollouts.select(rows).with_videos(pixels))
            by_pixel += torch.autograd.grad(value.sum(), pixels)
        rewards.append(value.detach())
    pixel_gradients, gradients = torch.cat(by_pixel), list[Tensor]()
    for window in batch.windows:
        found: list[Tensor] = []
        for rows in split_rows(len(videos), parts):
            with torch.no_grad():
                context = tokenizer.encode_context(videos[rows, window.start])
            with torch.enable_grad():
                values = tokenizer.code_values(batch.tokens[rows, window.start : window.stop]).float().requires_grad_()
                frames = tokenizer.decode_values(context, values)
                shown = pixel_gradients[rows, window.start + 1 : window.stop + 1]
                found += torch.autograd.grad(frames, values, shown)
        gradients.append(torch.cat(found))
    return torch.cat(rewards), gradients


def split_rows(count: int, parts: int) -> Iterator[slice]:
    """The rows from 0 to `count` in at most `parts` parts, all of one size but the last, which may be smaller."""
    size = -(-count // parts)
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))
