"""Rollouts by the sampler alone, for tests of it."""

import torch
from torch import Tensor

from roboalign.world_model.model import WorldModel
from roboalign.world_model.sampler import Sampler


def generate(
    model: WorldModel,
    context_tokens: Tensor,
    actions: Tensor,
    action_mask: Tensor,
    seeds: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    window: int = 0,
) -> Tensor:
    """Roll out `actions` (B, F, A) from the prompts `context_tokens` (B, Nc + Nd): dynamics tokens (B, F, Nd).

    With a `window`, each frame sees the context and the `window` - 1 frames before it; 0 sees all.
    """
    sampler = Sampler(model, temperature=temperature, top_k=top_k, top_p=top_p)
    frames = actions.shape[1]
    state = sampler.start(context_tokens, action_mask, seeds, min(window, frames) if window else frames)
    tokens = []
    for action in actions.unbind(1):
        if state.cached_frames == state.capacity:
            sampler.drop(state)
        tokens.append(sampler.step(state, action))
    return torch.stack(tokens, 1)
