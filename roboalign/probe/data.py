"""Training samples of the probe: a few frames of one episode, in some samples as reconstructed by the tokenizer."""

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
"""Number of samples of each episode. A sample is a function of its number alone, so that training can resume."""

Reconstruct = Callable[[UInt8], UInt8]
"""Reconstructs frames (T, H, W, 3) by the tokenizer; the first frame is their context."""

Task = tuple[str, str]
"""(source, task)."""


class Sample(TypedDict):
    """A training clip of K frames, or a batch of them."""

    frames: Tensor
    """(K, 3, H, W), uint8."""
    task: Tensor
    """(), number of the task in the probe."""
    state: Tensor
    """(K, 14), columns STATE_NAMES."""
    points: Tensor
    """(K, 3, 2), image coordinates of gripper, object and goal, in [0, 1] inside the image."""


def select_round_robin(infos: Sequence[EpisodeInfo], count: int) -> list[int]:
    """Numbers of at most `count` episodes with states, taken from the tasks in turn; sorted."""
    by_task: dict[Task, list[int]] = {}
    for number, info in enumerate(infos):
        if info.success is not None:
            by_task.setdefault((info.source, info.task), []).append(number)
    rounds = max((len(numbers) for numbers in by_task.values()), default=0)
    ordered = [numbers[turn] for turn in range(rounds) for numbers in by_task.values() if turn < len(numbers)]
    return sorted(ordered[:count])


def select_part(infos: Sequence[EpisodeInfo], part: int, parts: int) -> list[int]:
    """Numbers of the episodes of part `part` of `parts` disjoint parts.

    The scenes of each task are assigned to the parts in turn, in the order of a hash. So parts differ by at most one
    scene per task, and the part of a scene depends only on the scenes of its task.
    """
    scenes: dict[Task, set[str]] = {}
    for info in infos:
        scenes.setdefault((info.source, info.task), set()).add(info.scene)

    def rank(scene: str) -> bytes:
        return hashlib.blake2b(scene.encode(), digest_size=8).digest()

    selected = {(task, scene) for task, names in scenes.items() for scene in sorted(names, key=rank)[part::parts]}
    return [number for number, info in enumerate(infos) if ((info.source, info.task), info.scene) in selected]


def select_episodes(corpus: Corpus, spec: ProbeSpec) -> list[Episode]:
    """Read the probe's training episodes: at most `spec.episodes` of its part, with states and keypoints."""
    numbers = select_part(corpus.infos, spec.part, spec.parts)
    indices = select_round_robin([corpus.infos[number] for number in numbers], spec.episodes)
    episodes = (corpus.read(numbers[index]) for index in indices)
    return [episode for episode in episodes if episode.state is not None and episode.keypoints is not None]


def list_tasks(episodes: Sequence[Episode]) -> tuple[Task, ...]:
    """The (source, task) pairs of the episodes, sorted."""
    return tuple(sorted({(episode.source, episode.task) for episode in episodes}))


class ProbeClips(Dataset[Sample]):
    """Training clips of recorded episodes."""

    def __init__(
        self,
        episodes: Sequence[Episode],
        tasks: Sequence[Task],
        frames: int,
        spec: AugmentationSpec,
        seed: int,
        reconstruct: Reconstruct | None,
    ) -> None:
        """Reconstruct every other episode.

        Args:
            episodes: Episodes with states and keypoints.
            tasks: The probe's tasks.
            frames: K, frames of a clip.
            spec: Fractions of reconstructed and of rearranged clips.
            seed: Seed of all choices.
            reconstruct: The tokenizer; None to use recorded frames only.
        """
        self.frames, self.spec, self.seed = frames, spec, seed
        self.episodes = list(episodes)
        self.numbers = [tasks.index((episode.source, episode.task)) for episode in episodes]
        self.reconstructed: dict[int, UInt8] = {}
        for number, episode in enumerate(self.episodes[::2] if reconstruct is not None else ()):
            # The context is any frame of the first half, as it is for generated clips.
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
    """Frame numbers (frames,) of a clip from an episode of `length` frames.

    They are consecutive, or, with probability `rearranged` and in short episodes, random with repetitions.
    """
    if rng.random() < rearranged or length <= frames:
        return rng.integers(length, size=frames)
    start = int(rng.integers(length - frames + 1))
    return np.arange(start, start + frames)
