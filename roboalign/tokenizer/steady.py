"""A tokenizer whose output for a picture does not depend on what else is in the batch, to the last bit.

A library of convolutions sums in another order for another number of pictures. Here every call sees the same number:
pictures go through in blocks, the last one filled up. So a rollout shows the same video alone and among others, and
step by step or as a whole; memory stays that of one block. Training does not need this and keeps the plain tokenizer.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from roboalign.tokenizer.model import Context, DualBranchTokenizer
from roboalign.tokenizer.spec import TokenizerSpec

PIXELS = 8 * 64 * 64
"""Pixels of a block: 8 pictures of 64x64, one of 256x320. Small ones alone do not keep the machine busy."""


class SteadyTokenizer:
    """`encode_context`, `encode` and `decode` of a tokenizer, in blocks; without gradients."""

    def __init__(self, tokenizer: DualBranchTokenizer) -> None:
        self.tokenizer = tokenizer
        self.block = max(1, PIXELS // (tokenizer.spec.height * tokenizer.spec.width))
        """Pictures of a block."""

    @property
    def spec(self) -> TokenizerSpec:
        """The tokenizer's spec."""
        return self.tokenizer.spec

    @torch.no_grad()
    def encode_context(self, frames: Tensor) -> Context:
        """Encode context frames (B, 3, H, W). Raises ValueError on frames of another size."""
        parts = [self.tokenizer.encode_context(frames[rows]) for rows in self._blocks(len(frames), frames.device)]
        size = len(frames)
        features = zip(*(part.features for part in parts), strict=True)
        return Context(
            torch.cat([part.tokens for part in parts])[:size],
            tuple(torch.cat(each)[:size] for each in features),
            frames,
        )

    @torch.no_grad()
    def encode(self, context: Context, frames: Tensor) -> Tensor:
        """Dynamics tokens (B, F, dynamics_tokens) of frames (B, F, 3, H, W) under their contexts."""
        return self._each(self.tokenizer.encode, context, frames)

    @torch.no_grad()
    def decode(self, context: Context, tokens: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) in [0, 1] of dynamics tokens (B, F, dynamics_tokens) under their contexts."""
        return self._each(self.tokenizer.decode, context, tokens)

    def _each(self, call: Callable[[Context, Tensor], Tensor], context: Context, given: Tensor) -> Tensor:
        """`call` of every picture of `given` (B, F, …) with its context, as (B, F, …)."""
        count, flat = given.shape[1], given.flatten(0, 1)
        blocks = self._blocks(len(flat), flat.device)
        made = torch.cat([call(context.select(rows // count), flat[rows, None]) for rows in blocks])[: len(flat), 0]
        return made.reshape(*given.shape[:2], *made.shape[1:])

    def _blocks(self, count: int, device: torch.device) -> Iterator[Tensor]:
        """Row numbers, `block` at a time; the last row fills the last block up."""
        rows = torch.arange(-(-count // self.block) * self.block, device=device).clamp(max=count - 1)
        yield from torch.split(rows, self.block)
