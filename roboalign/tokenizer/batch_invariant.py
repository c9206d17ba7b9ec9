"""A tokenizer whose output for an image has the same bits in any batch.

Convolution results depend on the batch size, so frames are processed in padded chunks of a fixed size. A rollout then
shows the same video alone and in a batch, frame by frame and as a whole, and memory is bounded by one chunk. Training
does not need this and uses the plain tokenizer.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from roboalign.tokenizer.interface import EncodedContext, Tokenizer
from roboalign.tokenizer.spec import TokenizerSpec

PIXELS = 8 * 64 * 64
"""Pixels of a chunk: 8 images of 64x64, or 1 of 256x320. Single small images would not use all cores."""


class BatchInvariantTokenizer:
    """`encode_context`, `encode` and `decode` of a tokenizer in chunks, without gradients."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.block = max(1, PIXELS // (tokenizer.spec.height * tokenizer.spec.width))
        """Images of a chunk."""

    @property
    def spec(self) -> TokenizerSpec:
        """The tokenizer's spec."""
        return self.tokenizer.spec

    @torch.no_grad()
    def encode_context(self, frames: Tensor) -> EncodedContext:
        """Encode context frames (B, 3, H, W). Raises ValueError on frames of another size."""
        parts = [self.tokenizer.encode_context(frames[rows]) for rows in self._blocks(len(frames), frames.device)]
        size = len(frames)
        features = zip(*(part.features for part in parts), strict=True)
        return EncodedContext(
            torch.cat([part.tokens for part in parts])[:size],
            tuple(torch.cat(each)[:size] for each in features),
            frames,
        )

    @torch.no_grad()
    def encode(self, context: EncodedContext, frames: Tensor) -> Tensor:
        """Dynamics tokens (B, F, dynamics_tokens) of frames (B, F, 3, H, W) under their contexts."""
        return self._each(self.tokenizer.encode, context, frames)

    @torch.no_grad()
    def decode(self, context: EncodedContext, tokens: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) in [0, 1] of dynamics tokens (B, F, dynamics_tokens) under their contexts."""
        return self._each(self.tokenizer.decode, context, tokens)

    def _each(self, call: Callable[[EncodedContext, Tensor], Tensor], context: EncodedContext, given: Tensor) -> Tensor:
        """Apply `call` to every image of `given` (B, F, ...) with its context: (B, F, ...)."""
        count, flat = given.shape[1], given.flatten(0, 1)
        blocks = self._blocks(len(flat), flat.device)
        made = torch.cat([call(context.select(rows // count), flat[rows, None]) for rows in blocks])[: len(flat), 0]
        return made.reshape(*given.shape[:2], *made.shape[1:])

    def _blocks(self, count: int, device: torch.device) -> Iterator[Tensor]:
        """Row numbers, `block` at a time; the last chunk is padded with the last row."""
        rows = torch.arange(-(-count // self.block) * self.block, device=device).clamp(max=count - 1)
        yield from torch.split(rows, self.block)
