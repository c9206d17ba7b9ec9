"""Online iterative distillation (paper): the student learns the teacher's scores of the policy's latest rollouts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from roboalign.rl.interfaces import Score


@dataclass(frozen=True)
class Scored:
    """Clips with the teacher's scores."""

    videos: Tensor
    """(B, T, 3, H, W) in [0, 1], padded at the end."""
    lengths: Tensor
    """(B,), frames that count."""
    instructions: tuple[str, ...]
    scores: Tensor
    """(B, D), raw ranges."""


class BenchClips:
    """Clips of the bench that the student was distilled on, with the teacher's scores: what it must not forget."""

    def __init__(self, videos: Sequence[Tensor], instructions: Sequence[str], teacher: Score) -> None:
        """Clips (T, 3, H, W), uint8, of any lengths; those of one length are scored together."""
        self.videos, self.instructions = list(videos), list(instructions)
        rows: dict[int, list[int]] = {}
        for row, video in enumerate(videos):
            rows.setdefault(len(video), []).append(row)
        self.scores: dict[int, Tensor] = {}
        for same in rows.values():
            scores = teacher(
                torch.stack([videos[row] for row in same]).float() / 255, [instructions[row] for row in same]
            )
            self.scores |= dict(zip(same, scores.cpu(), strict=True))

    def __len__(self) -> int:
        return len(self.videos)

    def batch(self, indices: Sequence[int]) -> Scored:
        """The clips at `indices`, padded to the longest of them."""
        videos = nn.utils.rnn.pad_sequence([self.videos[index] for index in indices], batch_first=True)
        return Scored(
            videos.float() / 255,
            torch.tensor([len(self.videos[index]) for index in indices]),
            tuple(self.instructions[index] for index in indices),
            torch.stack([self.scores[index] for index in indices]),
        )


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
        videos = self.videos[indices].float() / 255
        lengths = torch.full((len(videos),), videos.shape[1], device=videos.device)
        return Scored(videos, lengths, words, self.scores[indices])


def spread(rollouts: int, total: int) -> Tensor:
    """`rollouts` numbers spread evenly over 0 … total - 1: some of every group."""
    return torch.arange(rollouts) * total // rollouts


def draw_indices(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` numbers below `size`, with replacement."""
    return torch.randint(size, (count,), generator=generator)
