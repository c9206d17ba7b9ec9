"""Sliding Window Re-encoding (paper, training-free), and what else may be encoded at a boundary.

The horizon is cut into segments of W frames. At each boundary a picture is encoded as a fresh context and the prompt is
reset: the sequence never holds more than W frames. In the paper it is the last predicted frame, decoded to pixels.
Frames keep their absolute number, so a row's random stream goes on where it was.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.segment import Log, Prompt, write_segment

Refresh = Callable[[Tensor, int], Tensor]
"""The picture (B, 3, H, W) to encode, given the last predicted one and the number of frames so far."""


def swr(
    tokenizer: Tokenizer[ContextT],
    sampler: Sampler[StateT],
    prompt: Prompt,
    window: int,
    log: Log,
    refresh: Refresh = lambda last, _: last,
    *,
    both: bool = False,
) -> tuple[Tensor, Tensor]:
    """Frames (B, F, 3, H, W) and tokens (B, F, Nd), a fresh context every `window` frames.

    With `both`, each prompt holds the context of the first frame too, before the fresh one.
    """
    picture, frames, tokens = prompt.frames, [], []
    beginning: Tensor | None = None
    for first in range(0, prompt.horizon, window):
        last = min(first + window, prompt.horizon)
        context = tokenizer.encode_context(picture)
        if both and beginning is None:
            beginning = context.tokens
        drawn = write_segment(sampler, context.tokens, prompt, first, last, log, beginning)
        seen = tokenizer.decode(context, drawn)
        log.spread(last - first)
        picture = refresh(seen[:, -1], last)
        frames.append(seen)
        tokens.append(drawn)
    return torch.cat(frames, 1), torch.cat(tokens, 1)


def true_frame(truth: Tensor) -> Refresh:
    """Refresh with the true frame of `truth` (B, F, 3, H, W): an upper bound."""
    return lambda _, frames: truth[:, frames - 1]


def anchored(first: Tensor, threshold: float) -> Refresh:
    """Refresh with the last frame, but pixels that have not moved since `first` (B, 3, H, W) are taken from there.

    What nothing has covered is then as sharp after many refreshes as after none. A pixel whose colours differ by at
    most `threshold` has not moved; up to twice as much, the two frames are blended.
    """

    def picture(last: Tensor, _: int) -> Tensor:
        change = (last - first).abs().amax(1, keepdim=True)
        return first + (change / threshold - 1).clamp(0, 1) * (last - first)

    return picture
