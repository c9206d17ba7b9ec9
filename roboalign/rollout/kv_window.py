"""A window over the key-value cache with the context as the attention sink (StreamingLLM, arXiv 2309.17453).

Once the window is full, the oldest frame leaves the cache before each new one. Nothing is computed anew, so what the
kept values know of the frames that left stays in them.
"""

import torch
from torch import Tensor

from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.segment import Log, Prompt


def kv_window(
    tokenizer: Tokenizer[ContextT], sampler: Sampler[StateT], prompt: Prompt, size: int, log: Log
) -> tuple[Tensor, Tensor]:
    """Frames (B, F, 3, H, W) and tokens (B, F, Nd); at most `size` frames stand behind the context."""
    context = tokenizer.encode_context(prompt.frames)
    size = min(size, prompt.horizon)
    state = sampler.start(context.tokens, prompt.action_mask, prompt.seeds, size)
    tokens = []
    for frame in range(prompt.horizon):
        if frame >= size:
            sampler.drop(state)
        tokens.append(sampler.step(state, prompt.actions[:, frame]))
        log.frame(state)
    drawn = torch.stack(tokens, 1)
    frames = tokenizer.decode(context, drawn)
    log.spread(prompt.horizon)
    return frames, drawn
