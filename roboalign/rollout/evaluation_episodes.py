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
from roboalign.video import allocate_video, concatenate_videos, to_float, video_to_frames


@dataclass(frozen=True)
class EvaluationEpisodes:
    """N episodes of horizon + 1 frames, the first of them the context frame."""

    infos: tuple[EpisodeInfo, ...]
    numbers: tuple[int, ...]
    """The number of each episode in the corpus, from which its random seed is derived."""
    frames: Tensor
    """(N, 1 + F, 3, H, W), uint8 on the CPU."""
    prompt: Prompt
    """On the device of the models."""
    folder: Path | None = None
    """The folder of the files in which `frames` lie; None if they are in memory."""

    @classmethod
    def of(
        cls, corpus: Corpus, horizon: int, count: int, seed: int, device: torch.device, folder: Path | None = None
    ) -> Self:
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
        video = torch.empty(0)
        for row, number in enumerate(numbers):
            frames = corpus.frames(number, 0, horizon + 1)
            if row == 0:
                # Channels last in memory, as the store has them: convolutions sum in another order otherwise.
                video = allocate_video((count, *frames.shape), folder).movedim(-1, -3)
            video[row] = torch.tensor(frames).movedim(-1, -3)
        actions = np.stack([corpus.actions(number)[:horizon] for number in numbers])
        masks = np.stack([corpus.action_mask(number) for number in numbers])
        prompt = Prompt(
            to_float(video[:, 0].to(device)),
            torch.from_numpy(actions).to(device),
            torch.from_numpy(masks).to(device),
            seeds(seed, numbers).to(device),
            torch.from_numpy(np.stack([corpus.proprioception(number)[0] for number in numbers])).to(device),
        )
        return cls(tuple(corpus.infos[number] for number in numbers), numbers, video, prompt, folder)

    def __len__(self) -> int:
        return len(self.infos)

    def without(self, others: Self) -> Self:
        """The episodes that are not among `others`; there may be none."""
        excluded = set(others.numbers)
        return self.select([row for row, number in enumerate(self.numbers) if number not in excluded])

    def select(self, rows: Sequence[int]) -> Self:
        """The episodes at `rows`."""
        places = torch.tensor(rows, dtype=torch.long)
        frames = allocate_video((len(rows), *self.frames.shape[1:]), self.folder)
        return type(self)(
            tuple(self.infos[row] for row in rows),
            tuple(self.numbers[row] for row in rows),
            torch.index_select(self.frames, 0, places, out=frames),
            self.prompt.select(places.to(self.device)),
            self.folder,
        )

    def join(self, others: Self) -> Self:
        """These episodes, then the others."""
        return type(self)(
            self.infos + others.infos,
            self.numbers + others.numbers,
            concatenate_videos([self.frames, others.frames], self.folder),
            self.prompt.join(others.prompt),
            self.folder,
        )

    @property
    def device(self) -> torch.device:
        """The device of the models."""
        return self.prompt.frames.device

    def video(self, rows: slice) -> Tensor:
        """The frames of some rows, (B, 1 + F, 3, H, W) in [0, 1], on the device of the models."""
        return to_float(self.frames[rows].to(self.device))

    @property
    def future(self) -> Tensor:
        """The true frames after the context frame, (N, F, 3, H, W), uint8."""
        return self.frames[:, 1:]

    def sample_prompt(self, seed: int, sample: int) -> Prompt:
        """The prompt with the seeds of another sample of the same episodes; sample 0 is `prompt`."""
        return replace(self.prompt, seeds=seeds(seed, self.numbers, sample).to(self.device))


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
    chosen = episodes.select(kept)
    given = torch.stack(actions).to(chosen.prompt.actions) if actions else chosen.prompt.actions
    return replace(chosen, prompt=replace(chosen.prompt, actions=given))


def seeds(seed: int, numbers: Sequence[int], sample: int = 0) -> Tensor:
    """One random seed for each episode number, (N,), a pure function of (seed, number, sample)."""
    states = [np.random.SeedSequence((seed, number, sample)).generate_state(1, np.uint64)[0] for number in numbers]
    return torch.tensor([int(state >> np.uint64(1)) for state in states])


def write_clips(
    folder: Path, episodes: EvaluationEpisodes, videos: Sequence[Tensor], fps: float
) -> dict[str, list[object]]:
    """Store one or more samples of every episode; returns the index's `episodes` and `samples`.

    Samples are (N, T, 3, H, W), float or uint8. Clips are ordered sample by sample. With several samples, an id ends in
    `#` and the number of the sample. Actions are normalised.
    """
    actions: Float32 = episodes.prompt.actions.cpu().numpy()
    padded = np.pad(actions, ((0, 0), (0, 1), (0, 0)))  # the last action leads past the end
    episode_ids: list[object] = []
    samples: list[object] = []
    with EpisodeWriter(folder, fps=fps) as writer:
        for sample, video in enumerate(videos):
            for info, clip, row in zip(episodes.infos, video, padded, strict=True):
                frames = video_to_frames(clip)
                name = info.id if len(videos) == 1 else f"{info.id}#{sample}"
                writer.add(
                    Episode(
                        name, info.source, info.task, info.instruction, info.policy, info.scene, info.split, frames, row
                    )
                )
                episode_ids.append(info.id)
                samples.append(sample)
    return {"episodes": episode_ids, "samples": samples}
