"""The state of a batch of rollouts in progress: the key-value cache, and what the next frame needs.

*Windows.* `State.drop` forgets the oldest frames and moves the later ones up, directly behind the context, which stays
as the attention sink (StreamingLLM). Cached keys were rotated by their old positions; rotations add, so turning a key
back by the distance it moves gives the key of its new position. Values carry no position. The kept keys and
values still depend on the dropped frames.
"""

import torch
from torch import Tensor

from roboalign.world_model.kv_cache import KeyValueCache
from roboalign.world_model.layout import SequenceLayout
from roboalign.world_model.model import rotate


class DecodeState:
    """A batch of rollouts in progress. All rows have the same number of frames."""

    def __init__(
        self,
        layout: SequenceLayout,
        cache: KeyValueCache,
        tokens: Tensor,
        mask: Tensor,
        seeds: Tensor,
        first_frame: int,
    ) -> None:
        self.layout = layout
        self.cache = cache
        self.mask, self.seeds = mask, seeds
        self.frame = first_frame
        """Absolute number of the next frame."""
        self.frames = 0
        """Frames made since the start, dropped ones included."""
        self.dropped = 0
        """Frames dropped from the cache."""
        self.cached = layout.prefix
        """Tokens in the cache; the last one of the sequence can be in `pending_token` instead."""
        self.pending_token: Tensor | None = None
        """The input vectors (B, 1, hidden) of the last token, if that is not in the cache."""
        self.displacement = torch.zeros(mask.shape, device=mask.device)
        """The sum (B, A) of the actions since the context."""
        self.tokens = tokens
        """The last frame's tokens (B, Nd); before the first frame, those that the prompt gives for the context."""
        self.logits = torch.zeros(*tokens.shape, 1, device=seeds.device)
        """Logits (B, Nd, codes) of the last drawn frame's tokens, at temperature 1 and before top-k and top-p; before
        the first one, those of a single code, which is certain."""

    @property
    def entropy(self) -> Tensor:
        """Mean entropy in nats, (B,), of the model's distributions of the last drawn frame's tokens."""
        logarithms = self.logits.log_softmax(-1)
        return -(logarithms.exp() * logarithms).sum(-1).mean(-1)

    @property
    def rows(self) -> int:
        """Rollouts in the batch."""
        return len(self.seeds)

    @property
    def cached_frames(self) -> int:
        """Frames that the next one can attend to."""
        return self.frames - self.dropped

    @property
    def capacity(self) -> int:
        """Most frames that the cache holds."""
        return self.layout.frames(self.cache.capacity)

    @property
    def sequence_length(self) -> int:
        """Tokens of the sequence so far, without dropped frames."""
        return self.layout.length(self.cached_frames)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the allocated cache."""
        return self.cache.bytes

    def select(self, rows: Tensor, seeds: Tensor | None = None) -> "DecodeState":
        """A new state of the rollouts `rows`, an index that may repeat; they share no memory with this one.

        Rows keep their seeds unless `seeds` names new ones: copies that are to differ need seeds of their own.
        """
        with torch.no_grad():
            chosen = DecodeState(
                self.layout,
                self.cache.select(rows),
                self.tokens[rows],
                self.mask[rows],
                self.seeds[rows] if seeds is None else seeds,
                self.frame,
            )
            chosen.frames, chosen.dropped, chosen.cached = self.frames, self.dropped, self.cached
            chosen.displacement, chosen.logits = self.displacement[rows], self.logits[rows]
            chosen.pending_token = None if self.pending_token is None else self.pending_token[rows]
        if len(chosen.seeds) != len(chosen.mask):
            raise ValueError(f"{len(chosen.mask)} rollouts need as many seeds, got {len(chosen.seeds)}")
        return chosen

    def fork(self, copies: int, seeds: Tensor) -> "DecodeState":
        """Each rollout `copies` times in a row, each copy with its own of the `seeds` (B * copies,)."""
        rows = torch.arange(self.rows, device=self.seeds.device).repeat_interleave(copies)
        return self.select(rows, seeds)

    def drop(self, frames: int, cosines: Tensor, sines: Tensor) -> None:
        """Forget the oldest `frames` frames (see `Sampler.drop`, which has the model's angles)."""
        if not 0 <= frames < max(self.cached_frames, 1):
            raise ValueError(f"cannot drop {frames} of {self.cached_frames} cached frames: the last one must stay")
        if frames == 0:
            return
        keys, values = self.cache.own.unbind(1)
        start, distance = self.layout.prefix - self.cache.shared_tokens, frames * self.layout.frame
        end = self.cached - self.cache.shared_tokens
        old, new = slice(start + distance, end), slice(start, end - distance)
        # The angles of position p turn by p; with the sines negated they turn back.
        cosine, sine = cosines[distance].to(keys.dtype), -sines[distance].to(keys.dtype)
        keys[..., new, :] = rotate(keys[..., old, :], cosine, sine)
        values[..., new, :] = values[..., old, :].clone()
        self.cached -= distance
        self.dropped += frames
