"""Advantages of the rollouts of one prompt (GRPO, arXiv 2402.03300, and its variants)."""

from typing import Literal, assert_never

import torch
from torch import Tensor

EQUAL = 1e-6
"""Relative deviation of rewards below which a group counts as constant, so that rounding errors are not amplified."""


def group_advantage(rewards: Tensor, min_std: float = 0.0) -> Tensor:
    """Rewards (prompts, G) minus their group's mean, over its population standard deviation; same shape.

    A constant group gets 0, because it has no preferred rollout. A standard deviation below `min_std` is replaced by
    `min_std`, so that the noise of a reward that hardly differs between rollouts is not amplified.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    deviation = centred.square().mean(1, keepdim=True).sqrt()
    constant = deviation <= EQUAL * (1 + rewards.abs().amax(1, keepdim=True))
    return (centred / deviation.clamp(min=min_std).masked_fill(constant, 1)).masked_fill(constant, 0)


def rank_advantage(rewards: Tensor) -> Tensor:
    """Ranks of rewards (prompts, G) within their group, evenly spaced from -1 to 1; ties share the mean rank."""
    lower = (rewards.unsqueeze(2) > rewards.unsqueeze(1)).sum(2)
    tied = (rewards.unsqueeze(2) == rewards.unsqueeze(1)).sum(2) - 1
    return (2 * lower + tied) / max(1, rewards.shape[1] - 1) - 1


def relative_advantage(
    rewards: Tensor, kind: Literal["standardized", "centred", "rank"], min_std: float = 0.0
) -> Tensor:
    """Advantages of rewards (prompts, G) within their group; same shape. `min_std` is for standardized ones."""
    match kind:
        case "standardized":
            return group_advantage(rewards, min_std)
        case "centred":
            return rewards - rewards.mean(1, keepdim=True)
        case "rank":
            return rank_advantage(rewards)
        case _:
            assert_never(kind)


def reward_to_go(rewards: Tensor) -> Tensor:
    """The sum of the rewards (..., F) of each frame and all later ones, over the number of frames; same shape."""
    return rewards.flip(-1).cumsum(-1).flip(-1) / rewards.shape[-1]


def signal_to_noise(gradients: list[Tensor]) -> Tensor:
    """Cosines (pairs,) between all pairs of gradients (N,) of different batches; 0 on average if they are noise."""
    directions = torch.stack([g / g.norm().clamp(min=1e-20) for g in gradients])
    upper = torch.triu_indices(len(gradients), len(gradients), 1, device=directions.device)
    return (directions @ directions.T)[upper[0], upper[1]]
