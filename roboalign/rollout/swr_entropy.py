"""Sliding Window Re-encoding with windows that the model chooses: a row is refreshed when the next frame looks unsure.

Rows are refreshed at frames of their own. Rows that go on from the same frame are drawn together; a row's decisions
follow from its own entropies, so what else is in the batch makes no difference to it.
"""

import torch
from torch import Tensor

from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.segment import Log, Prompt
from roboalign.rollout.spec import EntropySwrSpec


def swr_entropy(
    tokenizer: Tokenizer[ContextT], sampler: Sampler[StateT], prompt: Prompt, spec: EntropySwrSpec, log: Log
) -> tuple[Tensor, Tensor]:
    """Frames (B, F, 3, H, W) and tokens (B, F, Nd), a fresh context wherever a row's entropy rose by `spec.rise`."""
    everything = torch.arange(len(prompt.seeds), device=prompt.seeds.device)
    pictures, waiting = prompt.frames.clone(), {0: everything}
    frames: Tensor | None = None
    tokens: Tensor | None = None
    while waiting:
        first = min(waiting)
        rows = waiting.pop(first)
        context = tokenizer.encode_context(pictures[rows])
        drawn, ends = _segment(sampler, context.tokens, prompt, rows, first, spec, log)
        for end in sorted(set(ends.tolist())):
            those = (ends == end).nonzero()[:, 0]
            seen = tokenizer.decode(context.select(those), drawn[those, :end])
            if frames is None or tokens is None:
                frames = seen.new_empty(len(everything), prompt.horizon, *seen.shape[2:])
                tokens = drawn.new_empty(len(everything), prompt.horizon, drawn.shape[2])
            frames[rows[those], first : first + end] = seen
            tokens[rows[those], first : first + end] = drawn[those, :end]
            pictures[rows[those]] = seen[:, -1]
            if first + end < prompt.horizon:
                met = waiting.get(first + end, rows[:0])
                waiting[first + end] = torch.cat([met, rows[those]])
    assert frames is not None
    assert tokens is not None
    return frames, tokens


def _segment(
    sampler: Sampler[StateT],
    context_tokens: Tensor,
    prompt: Prompt,
    rows: Tensor,
    first: int,
    spec: EntropySwrSpec,
    log: Log,
) -> tuple[Tensor, Tensor]:
    """Tokens (R, n, Nd) of the rows from frame `first` on, and how many frames of each row count, (R,).

    The frame at which a row turns out unsure is drawn anew under the next context.
    """
    room = min(spec.longest, prompt.horizon - first)
    state = sampler.start(context_tokens, prompt.action_mask[rows], prompt.seeds[rows], room, first_frame=first)
    ends = torch.full_like(rows, room)
    going = torch.arange(len(rows), device=rows.device)
    usual = torch.zeros(len(rows), device=rows.device)
    drawn: list[Tensor] = []
    for age in range(room):
        tokens = sampler.step(state, prompt.actions[rows[going], first + age])
        if age < spec.shortest:
            usual += state.entropy / spec.shortest
        else:
            sure = state.entropy <= spec.rise * usual[going]
            ends[going[~sure]] = age
            if not sure.any():
                break
            if not sure.all():
                kept = sure.nonzero()[:, 0]
                going, tokens = going[kept], tokens[kept]
                state = state.select(kept, prompt.seeds[rows[going]])
        whole = tokens.new_zeros(len(rows), tokens.shape[1])
        whole[going] = tokens
        drawn.append(whole)
    log.segment(state, first, first + len(drawn))
    return torch.stack(drawn, 1), ends
