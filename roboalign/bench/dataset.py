"""The pairs of a bench as training samples."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.bench.pairs import Bench
from roboalign.reward.text import Vocabulary
from roboalign.types import KEYPOINT_NAMES

CACHE_BYTES = 2**30
"""Clips are kept in memory up to this size; the others are made anew each time."""


class PairDataset(Dataset[dict[str, Tensor]]):
    """The pairs `rows` of a bench: video (T, 3, H, W) uint8, padded at its end to the longest clip; keypoints
    (T, 6), NaN where unknown; length; words; targets (D,), shares of full marks."""

    def __init__(self, bench: Bench, rows: Sequence[int], targets: NDArray[np.float64], vocabulary: Vocabulary) -> None:
        """`targets` is (len(rows), D). Raises ValueError where the two do not fit."""
        if len(targets) != len(rows):
            raise ValueError(f"{len(rows)} pairs have {len(targets)} targets")
        self.bench, self.rows = bench, list(rows)
        self.targets = torch.from_numpy(targets).float()
        self.words = vocabulary.encode([bench.pairs[row].instruction for row in rows])
        self.longest = max((bench.pairs[row].stop - bench.pairs[row].start for row in rows), default=0)
        self._cache: dict[int, Tensor] = {}
        self._cached = 0

    def __len__(self) -> int:
        return len(self.rows)

    def video(self, index: int) -> Tensor:
        """The clip (T, 3, H, W), uint8, not padded."""
        if index in self._cache:
            return self._cache[index]
        video = torch.from_numpy(np.ascontiguousarray(self.bench.frames(self.rows[index]).transpose(0, 3, 1, 2)))
        if self._cached + video.nbytes <= CACHE_BYTES:
            self._cache[index] = video
            self._cached += video.nbytes
        return video

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        video = self.video(index)
        padded = torch.zeros(self.longest, *video.shape[1:], dtype=torch.uint8)
        padded[: len(video)] = video
        points = torch.full((self.longest, len(KEYPOINT_NAMES)), torch.nan)
        points[: len(video)] = torch.from_numpy(self.bench.keypoints(self.rows[index]))
        return {
            "video": padded,
            "keypoints": points,
            "length": torch.tensor(len(video)),
            "words": self.words[index],
            "target": self.targets[index],
        }
