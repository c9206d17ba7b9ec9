"""Sliding Window Re-encoding (paper, training-free), and the same with true frames as an upper bound.

The horizon is cut into segments of W frames. At each boundary the last predicted frame, decoded to pixels, is encoded
as a fresh context and the prompt is reset: the sequence never holds more than W frames. Frames keep their absolute
number, so a row's random stream goes on where it was.
"""

import torch
from torch import Tensor

from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.segment import Log, Prompt, write_segment


def swr(
    tokenizer: Tokenizer[ContextT],
    sampler: Sampler[StateT],
    prompt: Prompt,
    window: int,
    log: Log,
    truth: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Frames (B, F, 3, H, W) and tokens (B, F, Nd), a fresh context every `window` frames.

    With `truth` (B, F, 3, H, W) the fresh context is the true frame instead of the predicted one.
    """
    picture, frames, tokens = prompt.frames, [], []
    for first in range(0, prompt.horizon, window):
        last = min(first + window, prompt.horizon)
        context = tokenizer.encode_context(picture)
        drawn = write_segment(sampler, context.tokens, prompt, first, last, log)
        seen = tokenizer.decode(context, drawn)
        log.spread(last - first)
        picture = seen[:, -1] if truth is None else truth[:, last - 1]
        frames.append(seen)
        tokens.append(drawn)
    return torch.cat(frames, 1), torch.cat(tokens, 1)
