"""The replay buffer of online distillation: the policy's latest rollouts with the judge's scores."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from roboalign.reward.observation import SetBatch


class ReplayBuffer(nn.Module):
    """A ring of clips as the student reads them. All of it are buffers, so that a checkpoint of its owner holds it."""

    filled: Tensor
    next: Tensor

    def __init__(self, capacity: int, like: Mapping[str, Tensor]) -> None:
        """`like` gives, by field of SetBatch, the shape and type of one clip."""
        super().__init__()
        self.capacity = capacity
        for name, value in like.items():
            self.register_buffer(f"clip_{name}", value.new_zeros(capacity, *value.shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))
        self.names = tuple(like)

    def __len__(self) -> int:
        return int(self.filled)

    def add(self, clips: SetBatch) -> None:
        """Keep clips; the oldest give way."""
        given = cast(dict[str, Tensor], clips)
        count = min(len(given["target"]), self.capacity)
        at = (self.next + torch.arange(count, device=self.next.device)) % self.capacity
        for name in self.names:
            buffer = getattr(self, f"clip_{name}")
            buffer[at] = given[name][-count:].to(buffer)
        self.next.copy_((self.next + count) % self.capacity)
        self.filled.copy_((self.filled + count).clamp(max=self.capacity))

    def clips(self, rows: Tensor) -> SetBatch:
        """The clips at `rows`."""
        return cast(SetBatch, {name: getattr(self, f"clip_{name}")[rows] for name in self.names})
