"""Prompts of one context or two, put together (layout.py has their order)."""

import torch
from torch import Tensor

from roboalign.world_model.layout import SequenceLayout


def join_contexts(initial_context: Tensor, latest: Tensor, dynamics: int) -> Tensor:
    """The prompts (B, 2 Nc + Nd) of two contexts, given those of each, (B, Nc + Nd), and Nd, `dynamics`."""
    return torch.cat([initial_context[:, :-dynamics], latest], 1)


def complete_prompts(layout: SequenceLayout, prompts: Tensor, initial_context: Tensor | None = None) -> Tensor:
    """Whole prompts for a model of this layout, given the contexts' `prompts` (B, Nc + Nd); whole ones stay so.

    For two contexts, `initial_context` (B, Nc + Nd) are the prompts of the frames that the rollouts began with; by
    default the same frames. Raises ValueError on prompts of another width, and on an `initial_context` for a model of
    one context.
    """
    width = layout.context // layout.contexts + layout.dynamics
    if layout.contexts == 2 and prompts.shape[1] == width:
        return join_contexts(prompts if initial_context is None else initial_context, prompts, layout.dynamics)
    if initial_context is not None:
        raise ValueError(
            "the world model has one context, which leaves no place for the frame that the rollout began with; train "
            "one with world_model.contexts: 2"
        )
    if prompts.shape[1] != layout.prompt:
        raise ValueError(
            f"prompts have {prompts.shape[1]} codes, the model takes {width - layout.dynamics} of the context and "
            f"{layout.dynamics} of the same frame as a later frame"
        )
    return prompts


def find_distinct_prompts(prompts: Tensor, proprioception: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The first row (P,) of each distinct prompt, in order, and the number (B,) of each row's prompt, from 0.

    Rows of `prompts` (B, codes) are equal if those of `proprioception` (B, width) have the same bits, too.
    """
    if proprioception is not None:
        bits = proprioception.float().contiguous().view(torch.int32)
        prompts = torch.cat([prompts, bits.long()], 1)
    numbers = torch.unique(prompts, dim=0, return_inverse=True)[1]
    rows = torch.arange(len(prompts), device=prompts.device)
    first = rows.new_full((int(numbers.max()) + 1,), len(prompts)).scatter_reduce(0, numbers, rows, "amin")
    order = first.argsort()
    return first[order], order.argsort()[numbers]
