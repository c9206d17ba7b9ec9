"""The replay buffer of online distillation: the latest rollouts with the judge's scores."""

from collections.abc import Callable, Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn

from roboalign.reward.observation import SetBatch


class ReplayBuffer(nn.Module):
    """A ring buffer of clips as the student reads them, on the CPU, wherever the module that holds it is moved.

    All content is in module buffers, so checkpoints include it.
    """

    filled: Tensor
    next: Tensor

    def __init__(self, capacity: int, like: Mapping[str, Tensor]) -> None:
        """Allocate `capacity` clips; `like` has the shape and dtype of each field of one clip, by field of SetBatch."""
        super().__init__()
        self.capacity = capacity
        for name, value in like.items():
            self.register_buffer(f"clip_{name}", value.new_zeros(capacity, *value.shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))
        self.names = tuple(like)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Do not move or convert: clips of videos at the paper's size would take gigabytes of the GPU."""
        return self

    def __len__(self) -> int:
        return int(self.filled)

    def add(self, clips: SetBatch) -> None:
        """Add clips; they replace the oldest ones if the buffer is full."""
        fields = cast(dict[str, Tensor], clips)
        count = min(len(fields["target"]), self.capacity)
        rows = (self.next + torch.arange(count)) % self.capacity
        for name in self.names:
            buffer = getattr(self, f"clip_{name}")
            buffer[rows] = fields[name][-count:].to(buffer)
        self.next.copy_((self.next + count) % self.capacity)
        self.filled.copy_((self.filled + count).clamp(max=self.capacity))

    def clips(self, rows: Tensor) -> SetBatch:
        """The clips at `rows`."""
        return cast(SetBatch, {name: getattr(self, f"clip_{name}")[rows] for name in self.names})
