"""Online iterative distillation (paper): the student learns the teacher's scores of the policy's latest rollouts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Scored:
    """Clips with the teacher's scores."""

    videos: Tensor
    """(B, T, 3, H, W) in [0, 1]."""
    instructions: tuple[str, ...]
    scores: Tensor
    """(B, D), raw ranges."""


class ScoredClips(Protocol):
    """A fixed set of scored clips: the bench that the student was distilled on."""

    def __len__(self) -> int:
        """The number of clips."""

    def batch(self, indices: Sequence[int]) -> Scored:
        """The clips at `indices`, all of one length."""


StudentLoss = Callable[[Scored], Tensor]
"""The student's regression loss on scored clips, with gradients."""


class Ring(nn.Module):
    """The latest scored rollouts. All of it are buffers, so that a checkpoint of its owner holds it."""

    videos: Tensor
    scores: Tensor
    prompts: Tensor
    filled: Tensor
    next: Tensor

    def __init__(self, capacity: int, clip: Sequence[int], dimensions: int) -> None:
        """`clip` is the shape (T, 3, H, W) of a rollout."""
        super().__init__()
        self.register_buffer("videos", torch.zeros(capacity, *clip, dtype=torch.uint8))
        self.register_buffer("scores", torch.zeros(capacity, dimensions))
        self.register_buffer("prompts", torch.zeros(capacity, dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return int(self.filled)

    def add(self, videos: Tensor, scores: Tensor, prompts: Tensor) -> None:
        """Keep clips (B, T, 3, H, W) in [0, 1], their scores (B, D) and prompt numbers (B,); the oldest give way."""
        capacity = len(self.videos)
        videos, scores, prompts = videos[-capacity:], scores[-capacity:], prompts[-capacity:]
        at = (self.next + torch.arange(len(videos), device=self.next.device)) % capacity
        self.videos[at] = (videos * 255).round().to(torch.uint8)
        self.scores[at] = scores.to(self.scores.dtype)
        self.prompts[at] = prompts
        self.next.copy_((self.next + len(videos)) % capacity)
        self.filled.copy_((self.filled + len(videos)).clamp(max=capacity))

    def batch(self, indices: Tensor, instruction: Callable[[int], str]) -> Scored:
        """The clips at `indices`; `instruction` gives that of a prompt number."""
        words = tuple(instruction(int(prompt)) for prompt in self.prompts[indices])
        return Scored(self.videos[indices].float() / 255, words, self.scores[indices])


def spread(rollouts: int, total: int) -> Tensor:
    """`rollouts` numbers spread evenly over 0 … total - 1: some of every group."""
    return torch.arange(rollouts) * total // rollouts


def draw_indices(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` numbers below `size`, with replacement."""
    return torch.randint(size, (count,), generator=generator)
