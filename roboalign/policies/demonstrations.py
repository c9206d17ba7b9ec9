"""Demonstrations: episodes of experts, as training samples of behaviour cloning."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.reward.text import Vocabulary
from roboalign.store import Corpus, EpisodeInfo
from roboalign.types import KEYPOINT_NAMES

DEMONSTRATORS = ("expert", "noisy_expert", "unknown")
"""Policies whose episodes are demonstrations."""


class DemonstrationFrame(TypedDict):
    """A frame of a demonstration, or a batch of them."""

    image: Tensor
    """(3, H, W), uint8."""
    words: Tensor
    """(L,), word numbers of the instruction."""
    action: Tensor
    """(A,), normalised."""
    mask: Tensor
    """(A,), which dimensions the robot has."""
    points: Tensor
    """(3, 2), image coordinates of gripper, object and goal; NaN if unknown."""


def select_demonstrations(infos: Sequence[EpisodeInfo], count: int, *, successful: bool = True) -> list[int]:
    """Numbers of at most `count` demonstrations, taken from the tasks in turn; sorted. `successful` leaves out failed
    ones."""
    by_task: dict[tuple[str, str], list[int]] = {}
    for number, info in enumerate(infos):
        if info.policy in DEMONSTRATORS and not (successful and info.success is False):
            by_task.setdefault((info.source, info.task), []).append(number)
    rounds = max((len(numbers) for numbers in by_task.values()), default=0)
    ordered = [numbers[turn] for turn in range(rounds) for numbers in by_task.values() if turn < len(numbers)]
    return sorted(ordered[:count])


class Demonstrations(Dataset[DemonstrationFrame]):
    """The frames of some demonstrations, in memory."""

    def __init__(self, corpus: Corpus, numbers: Sequence[int], vocabulary: Vocabulary) -> None:
        self.images, self.actions, self.points, self.masks, self.words = [], [], [], [], []
        places = []
        for row, number in enumerate(numbers):
            frames = corpus.frames(number)
            known = corpus.keypoints(number)
            missing = np.full((len(frames), len(KEYPOINT_NAMES)), np.nan, np.float32)
            self.images.append(frames)
            self.actions.append(corpus.actions(number))
            self.points.append((missing if known is None else known).reshape(len(frames), -1, 2))
            self.masks.append(corpus.action_mask(number))
            self.words.append(vocabulary.encode([corpus.infos[number].instruction])[0])
            places += [(row, frame) for frame in range(len(frames))]
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> DemonstrationFrame:
        row, frame = self.places[number]
        return {
            "image": torch.from_numpy(self.images[row][frame].transpose(2, 0, 1).copy()),
            "words": self.words[row],
            "action": torch.from_numpy(self.actions[row][frame]),
            "mask": torch.from_numpy(self.masks[row]),
            "points": torch.from_numpy(self.points[row][frame]),
        }
