"""Fine-tuning on the best rollouts of each prompt by the reward (rejection sampling, RAFT, arXiv 2304.06767)."""

import torch
from torch import Tensor


def pick_best(rewards: Tensor, keep: int) -> Tensor:
    """A mask (prompts, G) of the `keep` rollouts with the highest rewards of each group; ties keep the first.

    A group whose rewards are all equal keeps none, because it has no preferred rollout.
    """
    order = rewards.argsort(dim=1, descending=True, stable=True)
    best = torch.zeros_like(rewards, dtype=torch.bool).scatter(1, order[:, :keep], True)
    return best & (rewards.amax(1, keepdim=True) > rewards.amin(1, keepdim=True))
