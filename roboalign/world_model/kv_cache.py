"""The key-value cache of a batch of rollouts, in which rollouts of one prompt may share the prompt's part.

The first tokens of B sequences can be those of P < B prompts. Their keys and values are then stored once for each
prompt (`shared`), and the later ones for each sequence (`own`). Without sharing, `own` has all tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor

SHARED_FROM = 4
"""Mean number of sequences of a prompt from which sharing pays: it takes more operations than it saves for fewer."""
WASTE = 2
"""Prompts are shared if their groups, filled up to the largest one, have at most so many times as many places as
sequences."""


class PromptGroups(NamedTuple):
    """The sequences of each of P prompts, filled up to groups of G places."""

    rows: Tensor
    """(P, G), the sequence at each place; spare places have any."""
    places: Tensor
    """(B,), the place of each sequence in `rows.flatten()`."""

    @classmethod
    def of(cls, prompts: Tensor) -> "PromptGroups | None":
        """The groups of sequences whose prompts have the numbers `prompts` (B,), all of 0 … P - 1 among them.

        None if sharing does not pay: if few sequences have the same prompt, or groups are of very unequal size.
        """
        sizes = torch.bincount(prompts)
        largest, count = int(sizes.max()), len(prompts)
        if len(sizes) * SHARED_FROM > count or len(sizes) * largest > WASTE * count:
            return None
        order = prompts.argsort(stable=True)
        starts = sizes.cumsum(0) - sizes
        members = torch.arange(count, device=prompts.device) - starts[prompts[order]]
        places = torch.empty_like(order)
        places[order] = prompts[order] * largest + members
        rows = torch.zeros(len(sizes) * largest, dtype=torch.long, device=prompts.device)
        rows[places] = torch.arange(count, device=prompts.device)
        return cls(rows.view(len(sizes), largest), places)


class LayerCache(NamedTuple):
    """The cache of one layer."""

    own: Tensor
    """Keys and values of each sequence, (2, B, key-value heads, room, width)."""
    shared: Tensor | None
    """Keys and values of each prompt, (2, P, key-value heads, tokens, width)."""
    groups: PromptGroups | None
    """The sequences of each prompt, if they share."""


class KeyValueCache:
    """The cache of all layers."""

    def __init__(
        self,
        own: Tensor,
        shared: Tensor | None = None,
        prompts: Tensor | None = None,
        groups: PromptGroups | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            own: (layers, 2, B, key-value heads, room, width).
            shared: (layers, 2, P, key-value heads, tokens, width); None if nothing is shared.
            prompts: (B,), the prompt of each sequence, if they share.
            groups: Those of `prompts`.
        """
        self.own, self.shared, self.prompts, self.groups = own, shared, prompts, groups

    @property
    def shared_tokens(self) -> int:
        """Tokens at the start of each sequence that are stored once for each prompt."""
        return 0 if self.shared is None else self.shared.shape[4]

    @property
    def capacity(self) -> int:
        """Most tokens of a sequence."""
        return self.shared_tokens + self.own.shape[4]

    @property
    def bytes(self) -> int:
        """Bytes of the allocated memory."""
        return sum(part.numel() * part.element_size() for part in (self.own, self.shared) if part is not None)

    def layers(self) -> list[LayerCache]:
        """The cache of each layer."""
        shared = [None] * len(self.own) if self.shared is None else self.shared.unbind()
        return [LayerCache(own, part, self.groups) for own, part in zip(self.own.unbind(), shared, strict=True)]

    def select(self, rows: Tensor) -> "KeyValueCache":
        """A new cache of the sequences `rows`, an index that may repeat; they share no memory with this one."""
        own = self.own[:, :, rows]
        if self.shared is None or self.prompts is None:
            return KeyValueCache(own)
        used, prompts = torch.unique(self.prompts[rows], return_inverse=True)
        groups = PromptGroups.of(prompts)
        if groups is None:
            return KeyValueCache(torch.cat([self.shared[:, :, used[prompts]], own], 4))
        return KeyValueCache(own, self.shared[:, :, used], prompts, groups)
