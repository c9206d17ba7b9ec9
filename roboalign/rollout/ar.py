"""Plain autoregression (paper: the default): one context, one sequence that grows to the horizon."""

from torch import Tensor

from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.segment import Log, Prompt, write_segment


def ar(tokenizer: Tokenizer[ContextT], sampler: Sampler[StateT], prompt: Prompt, log: Log) -> tuple[Tensor, Tensor]:
    """Frames (B, F, 3, H, W) and tokens (B, F, Nd) of the whole horizon as one segment."""
    context = tokenizer.encode_context(prompt.frames)
    tokens = write_segment(sampler, context.tokens, prompt, 0, prompt.horizon, log)
    frames = tokenizer.decode(context, tokens)
    log.spread(prompt.horizon)
    return frames, tokens
