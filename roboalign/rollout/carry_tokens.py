"""The window of RLVR-World: segments that keep the original context and start from the last frame's tokens."""

import torch
from torch import Tensor

from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.segment import Log, Prompt


def carry_tokens(
    tokenizer: Tokenizer[ContextT], sampler: Sampler[StateT], prompt: Prompt, window: int, log: Log
) -> tuple[Tensor, Tensor]:
    """Frames (B, F, 3, H, W) and tokens (B, F, Nd); each later segment of `window` frames begins with the frame before.

    Nothing is encoded anew: the error of the codec does not add up, but the context grows old.
    """
    context = tokenizer.encode_context(prompt.frames)
    tokens: list[Tensor] = []
    for first in range(0, prompt.horizon, window):
        last = min(first + window, prompt.horizon)
        carried = min(first, 1)
        state = sampler.start(
            context.tokens,
            prompt.action_mask,
            prompt.seeds,
            last - first + carried,
            first_frame=first - carried,
            moved=prompt.actions[:, : first - carried].sum(1),
        )
        if carried:
            sampler.feed(state, prompt.actions[:, first - 1 : first], tokens[-1][:, None])
        for frame in range(first, last):
            tokens.append(sampler.step(state, prompt.actions[:, frame]))
            log.frame(state)
    drawn = torch.stack(tokens, 1)
    frames = tokenizer.decode(context, drawn)
    log.spread(prompt.horizon)
    return frames, drawn
