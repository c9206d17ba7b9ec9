"""Training samples of the tokenizer: a context frame and later frames of the same episode."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.store import Corpus
from roboalign.tokenizer.spec import SamplesSpec
from roboalign.types import KEYPOINT_NAMES, Float32, UInt8

VARIANTS = 64
"""Random choices of later frames for each context frame. A sample is a function of its number, for resuming."""

MEMORY = 2**30
"""Largest corpus, in bytes of frames, that is kept in memory; of a larger one, each sample reads its frames."""

POINTS = tuple(KEYPOINT_NAMES.index(name) for name in ("gripper_u", "gripper_v", "object_u", "object_v"))
"""Columns of the keypoints around which the loss may have more weight."""


class TokenizerSample(TypedDict):
    """A sample, or a batch of them: uint8 frames, and where gripper and object are (NaN where unknown)."""

    context: Tensor
    """(3, H, W)"""
    frames: Tensor
    """(F, 3, H, W)"""
    points: Tensor
    """(1 + F, 2, 2): gripper and object in the context and in each later frame, u and v from 0 to 1."""


def channels_first(frames: UInt8) -> Tensor:
    """uint8 (..., H, W, 3) to a tensor (..., 3, H, W) of the same bytes."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3)))


class TokenizerClips(Dataset[TokenizerSample]):
    """All samples of a corpus. Raises ValueError if frames are not of the spec's size."""

    def __init__(self, corpus: Corpus, spec: SamplesSpec, size: tuple[int, int], seed: int) -> None:
        self.corpus, self.spec, self.size, self.seed = corpus, spec, size, seed
        pairs = [(i, t) for i, info in enumerate(corpus.infos) for t in range(info.length - 1)]
        self.contexts = np.asarray(pairs, np.int64).reshape(-1, 2)
        total = sum(info.length for info in corpus.infos) * size[0] * size[1] * 3
        self.episodes: dict[int, tuple[UInt8, Float32]] = {}
        if total <= MEMORY:
            self.episodes = {i: self._read(i, range(info.length)) for i, info in enumerate(corpus.infos)}

    def _read(self, number: int, times: Sequence[int]) -> tuple[UInt8, Float32]:
        """Frames (len(times), H, W, 3) and points (len(times), 4) of an episode at rising times."""
        frames = self.corpus.frames_at(number, times)
        if frames.shape[1:3] != self.size:
            raise ValueError(
                f"{self.corpus.infos[number].id} has frames of {frames.shape[1]}x{frames.shape[2]}, the tokenizer "
                f"takes {self.size[0]}x{self.size[1]}; set tokenizer.height and .width, or the source's size"
            )
        points = self.corpus.keypoints(number)
        if points is None:
            return frames, np.full((len(frames), len(POINTS)), np.nan, np.float32)
        return frames, points[np.ix_(times, POINTS)]

    def __len__(self) -> int:
        return len(self.contexts) * VARIANTS

    def __getitem__(self, number: int) -> TokenizerSample:
        i, t = map(int, self.contexts[number // VARIANTS])
        generator = np.random.default_rng((self.seed, number))
        last = min(t + self.spec.horizon, self.corpus.infos[i].length - 1)
        times = np.array([t, *np.sort(generator.integers(t + 1, last + 1, self.spec.frames))])
        if i in self.episodes:
            frames, points = (values[times] for values in self.episodes[i])
        else:
            # The same frame number may have been drawn twice.
            distinct, place = np.unique(times, return_inverse=True)
            frames, points = (values[place] for values in self._read(i, distinct.tolist()))
        return {
            "context": channels_first(frames[0]),
            "frames": channels_first(frames[1:]),
            "points": torch.from_numpy(points.reshape(-1, 2, 2)),
        }


def evenly_spaced_indices(length: int, horizon: int, count: int) -> Sequence[int]:
    """At most `count` frame numbers after the first of an episode of `length` frames, evenly over the horizon, with its
    last frame."""
    last = min(horizon, length - 1)
    return sorted({int(t) for t in np.linspace(last, 1, min(count, last)).round()})
