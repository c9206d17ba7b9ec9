"""The group-normalised advantage of GRPO (DeepSeekMath, arXiv 2402.03300)."""

from torch import Tensor

SMALLEST_SPREAD = 1e-6
"""A group whose rewards spread less than this, relative to their size, is constant: rounding is no preference."""


def group_advantage(rewards: Tensor, least_spread: float = 0.0) -> Tensor:
    """Rewards (prompts, G) less their group's mean, over its standard deviation (of the population); same shape.

    A constant group gets 0: it says nothing about which rollout is better. A spread below `least_spread` counts as
    that much, so that a scorer that hardly tells rollouts apart does not drive the policy by its noise.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    constant = spread <= SMALLEST_SPREAD * (1 + rewards.abs().amax(1, keepdim=True))
    return (centred / spread.clamp(min=least_spread).masked_fill(constant, 1)).masked_fill(constant, 0)
