"""Fine-tuning on the best rollouts of each prompt by the reward (rejection sampling, RAFT, arXiv 2304.06767)."""

import torch
from torch import Tensor


def pick_best(rewards: Tensor, keep: int) -> Tensor:
    """Whether each rollout (prompts, G) is among the `keep` best of its group; among equals the first. Boolean.

    A group whose rewards are all equal keeps none: it prefers nothing.
    """
    order = rewards.argsort(dim=1, descending=True, stable=True)
    best = torch.zeros_like(rewards, dtype=torch.bool).scatter(1, order[:, :keep], True)
    return best & (rewards.amax(1, keepdim=True) > rewards.amin(1, keepdim=True))
