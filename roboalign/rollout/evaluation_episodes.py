"""Episodes to roll out: their first frames, actions and true futures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from roboalign.rollout.prompt import Prompt
from roboalign.store import Corpus, EpisodeInfo, EpisodeWriter
from roboalign.types import Episode, Float32
from roboalign.video import frames_to_video, video_to_frames


@dataclass(frozen=True)
class EvaluationEpisodes:
    """N episodes of horizon + 1 frames, the first of them the context frame."""

    infos: tuple[EpisodeInfo, ...]
    numbers: tuple[int, ...]
    """The number of each episode in the corpus, from which its random seed is derived."""
    frames: Tensor
    """(N, 1 + F, 3, H, W) in [0, 1]."""
    prompt: Prompt

    @classmethod
    def of(cls, corpus: Corpus, horizon: int, count: int, seed: int, device: torch.device) -> Self:
        """At most `count` episodes spread evenly over those of `corpus` that are long enough.

        Raises ValueError if there are fewer than two: no interval could be given.
        """
        splits = {info.split for info in corpus.infos}
        split = f"{splits.pop()} " if len(splits) == 1 else ""
        long = [number for number, info in enumerate(corpus.infos) if info.length > horizon]
        if len(long) < 2:
            raise ValueError(
                f"{len(long)} {split}episodes have more than rollout.horizon = {horizon} frames, and two are needed; "
                "lower it, or record more or longer episodes"
            )
        count = min(count, len(long))
        numbers = tuple(long[index * len(long) // count] for index in range(count))
        frames = np.stack([corpus.frames(number, 0, horizon + 1) for number in numbers])
        video = frames_to_video(frames, device)
        actions = np.stack([corpus.actions(number)[:horizon] for number in numbers])
        masks = np.stack([corpus.action_mask(number) for number in numbers])
        prompt = Prompt(
            video[:, 0],
            torch.from_numpy(actions).to(device),
            torch.from_numpy(masks).to(device),
            seeds(seed, numbers).to(device),
            torch.from_numpy(np.stack([corpus.proprioception(number)[0] for number in numbers])).to(device),
        )
        return cls(tuple(corpus.infos[number] for number in numbers), numbers, video, prompt)

    def __len__(self) -> int:
        return len(self.infos)

    def without(self, others: Self) -> Self:
        """The episodes that are not among `others`; there may be none."""
        rows = [row for row, number in enumerate(self.numbers) if number not in set(others.numbers)]
        return type(self)(
            tuple(self.infos[row] for row in rows),
            tuple(self.numbers[row] for row in rows),
            self.frames[rows],
            self.prompt.select(torch.tensor(rows, dtype=torch.long, device=self.frames.device)),
        )

    def join(self, others: Self) -> Self:
        """These episodes, then the others."""
        return type(self)(
            self.infos + others.infos,
            self.numbers + others.numbers,
            torch.cat([self.frames, others.frames]),
            self.prompt.join(others.prompt),
        )

    @property
    def future(self) -> Tensor:
        """The true frames after the context frame, (N, F, 3, H, W)."""
        return self.frames[:, 1:]

    def sample_prompt(self, seed: int, sample: int) -> Prompt:
        """The prompt with the seeds of another sample of the same episodes; sample 0 is `prompt`."""
        return replace(self.prompt, seeds=seeds(seed, self.numbers, sample).to(self.frames.device))


def swap_actions(episodes: EvaluationEpisodes, donors: Corpus) -> EvaluationEpisodes:
    """The same first frames under the actions of another episode of their source.

    Each takes the actions of the next of `donors` after it, those of other scenes in turn; only actions are taken, so
    any split may give them. Scenes without a donor that is long enough are left out.
    """
    horizon, order = episodes.prompt.horizon, {info.id: number for number, info in enumerate(donors.infos)}
    kept, actions = [], []
    for row, info in enumerate(episodes.infos):
        start = order.get(info.id, -1) + 1
        turn = [*range(start, len(donors)), *range(start)]
        fitting = (
            number
            for number in turn
            if donors.infos[number].source == info.source
            and donors.infos[number].id != info.id
            and donors.infos[number].length > horizon
        )
        donor = next(fitting, None)
        if donor is not None:
            kept.append(row)
            actions.append(torch.from_numpy(donors.actions(donor)[:horizon]))
    rows = torch.tensor(kept, dtype=torch.long, device=episodes.frames.device)
    prompt = episodes.prompt
    given = torch.stack(actions).to(prompt.actions) if actions else prompt.actions[rows]
    return EvaluationEpisodes(
        tuple(episodes.infos[row] for row in kept),
        tuple(episodes.numbers[row] for row in kept),
        episodes.frames[rows],
        replace(prompt.select(rows), actions=given),
    )


def seeds(seed: int, numbers: Sequence[int], sample: int = 0) -> Tensor:
    """One random seed for each episode number, (N,), a pure function of (seed, number, sample)."""
    states = [np.random.SeedSequence((seed, number, sample)).generate_state(1, np.uint64)[0] for number in numbers]
    return torch.tensor([int(state >> np.uint64(1)) for state in states])


def write_clips(
    folder: Path, episodes: EvaluationEpisodes, videos: Sequence[Tensor], fps: float
) -> dict[str, list[object]]:
    """Store one or more samples (N, T, 3, H, W) of every episode; returns the index's `episodes` and `samples`.

    Clips are ordered sample by sample. With several samples, an id ends in `#` and the number of the sample. Actions
    are normalised.
    """
    actions: Float32 = episodes.prompt.actions.cpu().numpy()
    padded = np.pad(actions, ((0, 0), (0, 1), (0, 0)))  # the last action leads past the end
    episode_ids: list[object] = []
    samples: list[object] = []
    with EpisodeWriter(folder, fps=fps) as writer:
        for sample, video in enumerate(videos):
            for info, frames, row in zip(episodes.infos, video_to_frames(video), padded, strict=True):
                name = info.id if len(videos) == 1 else f"{info.id}#{sample}"
                writer.add(
                    Episode(
                        name, info.source, info.task, info.instruction, info.policy, info.scene, info.split, frames, row
                    )
                )
                episode_ids.append(info.id)
                samples.append(sample)
    return {"episodes": episode_ids, "samples": samples}
