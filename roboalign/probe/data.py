"""Training samples of the probe: a few frames of one episode, some of them as the tokenizer reconstructs them."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.probe.spec import AugmentationSpec, ProbeSpec
from roboalign.store import Corpus, EpisodeInfo
from roboalign.types import Episode, UInt8

VARIANTS = 256
"""Draws of each episode. A sample is a function of its number alone: training can resume."""

Reconstruct = Callable[[UInt8], UInt8]
"""Frames (T, H, W, 3) as the tokenizer gives them back, the first one being their context."""

Task = tuple[str, str]
"""A source and its task."""


class Sample(TypedDict):
    """A training clip of K frames, or a batch of them."""

    frames: Tensor
    """(K, 3, H, W), uint8."""
    task: Tensor
    """Number of the task."""
    state: Tensor
    """(K, 14)."""
    points: Tensor
    """(K, 3, 2): gripper, object and goal in the picture."""


def take_in_turn(infos: Sequence[EpisodeInfo], count: int) -> list[int]:
    """The numbers of at most `count` episodes with states, taken from the tasks in turn."""
    of_task: dict[Task, list[int]] = {}
    for number, info in enumerate(infos):
        if info.success is not None:
            of_task.setdefault((info.source, info.task), []).append(number)
    deepest = max((len(numbers) for numbers in of_task.values()), default=0)
    turns = [numbers[turn] for turn in range(deepest) for numbers in of_task.values() if turn < len(numbers)]
    return sorted(turns[:count])


def select_part(infos: Sequence[EpisodeInfo], part: int, parts: int) -> list[int]:
    """The numbers of the episodes of one of `parts` disjoint parts.

    The scenes of each task are dealt to the parts in the order of a hash, so that parts are of equal size to within one
    scene a task, and the part of a scene depends on the scenes of its own task alone.
    """
    scenes: dict[Task, set[str]] = {}
    for info in infos:
        scenes.setdefault((info.source, info.task), set()).add(info.scene)

    def rank(scene: str) -> bytes:
        return hashlib.blake2b(scene.encode(), digest_size=8).digest()

    dealt = {(task, scene) for task, names in scenes.items() for scene in sorted(names, key=rank)[part::parts]}
    return [number for number, info in enumerate(infos) if ((info.source, info.task), info.scene) in dealt]


def select_episodes(corpus: Corpus, spec: ProbeSpec) -> list[Episode]:
    """The episodes with states and keypoints of the probe's part, at most `spec.episodes`, the tasks in turn."""
    numbers = select_part(corpus.infos, spec.part, spec.parts)
    chosen = take_in_turn([corpus.infos[number] for number in numbers], spec.episodes)
    found = (corpus.read(numbers[index]) for index in chosen)
    return [episode for episode in found if episode.state is not None and episode.keypoints is not None]


def list_tasks(episodes: Sequence[Episode]) -> tuple[Task, ...]:
    """The (source, task) pairs of the episodes, sorted."""
    return tuple(sorted({(episode.source, episode.task) for episode in episodes}))


class ProbeClips(Dataset[Sample]):
    """Clips of `frames` frames of the training episodes."""

    def __init__(
        self,
        episodes: Sequence[Episode],
        tasks: Sequence[Task],
        frames: int,
        spec: AugmentationSpec,
        seed: int,
        reconstruct: Reconstruct | None,
    ) -> None:
        self.frames, self.spec, self.seed = frames, spec, seed
        self.episodes = list(episodes)
        self.numbers = [tasks.index((episode.source, episode.task)) for episode in episodes]
        self.reconstructed: dict[int, UInt8] = {}
        for number, episode in enumerate(self.episodes[::2] if reconstruct is not None else ()):
            # Any frame of the first half may be the context, as it may be when clips are generated.
            context = int(np.random.default_rng((seed, number, 1)).integers(len(episode.frames) // 2))
            assert reconstruct is not None
            self.reconstructed[2 * number] = reconstruct(episode.frames[context:])

    def __len__(self) -> int:
        return len(self.episodes) * VARIANTS

    def __getitem__(self, number: int) -> Sample:
        row = number % len(self.episodes)
        episode, rng = self.episodes[row], np.random.default_rng((self.seed, number))
        frames = episode.frames
        if row in self.reconstructed and rng.random() < 2 * self.spec.reconstructed:
            frames = self.reconstructed[row]
        first = len(episode.frames) - len(frames)
        order = clip_order(len(frames), self.frames, self.spec.rearranged, rng)
        assert episode.state is not None
        assert episode.keypoints is not None
        return {
            "frames": torch.from_numpy(frames[order]).permute(0, 3, 1, 2).contiguous(),
            "task": torch.tensor(self.numbers[row]),
            "state": torch.from_numpy(episode.state[first + order]),
            "points": torch.from_numpy(episode.keypoints[first + order].reshape(-1, 3, 2)),
        }


def clip_order(length: int, frames: int, rearranged: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """The frame numbers of a clip: consecutive ones, or, in a share `rearranged` of the draws, random ones."""
    if rng.random() < rearranged or length <= frames:
        return rng.integers(length, size=frames)
    start = int(rng.integers(length - frames + 1))
    return np.arange(start, start + frames)
