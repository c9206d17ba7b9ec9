"""The pairs of a bench as training samples of a reward model: sets of clips, observed once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.bench.labels import Scores as Scores
from roboalign.bench.pairs import Bench
from roboalign.reward.model import RewardModel
from roboalign.reward.observation import Observation, SetBatch

BATCH_SIZE = 64
"""Clips that are scored or observed at once."""

SETS = 1_000_000
"""Nominal number of sets: training draws indices at random, and an index determines its set."""


def clips_of(bench: Bench, rows: Sequence[int]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """The clips of pairs in batches of equal length: places in `rows`, videos (B, T, 3, H, W) uint8 and actions
    (B, T - 1, A)."""
    lengths: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        lengths.setdefault(len(bench.frames(row)), []).append(place)
    for _, places in sorted(lengths.items()):
        for start in range(0, len(places), BATCH_SIZE):
            batch = places[start : start + BATCH_SIZE]
            frames, actions = zip(*(bench.clip(rows[place]) for place in batch), strict=True)
            videos = torch.from_numpy(np.ascontiguousarray(np.stack(frames).transpose(0, 1, 4, 2, 3)))
            yield batch, videos, torch.from_numpy(np.stack(actions))


def score_pairs(score: Callable[[Tensor, Sequence[str], Tensor], Tensor], bench: Bench, rows: Sequence[int]) -> Scores:
    """Raw scores (S, N, 2, D) of pairs by `score`, which returns (S, B, 2, D) for videos, instructions and actions."""
    batches, order = [], []
    for places, videos, actions in clips_of(bench, rows):
        texts = [bench.pairs[rows[place]].instruction for place in places]
        batches.append(score(videos, texts, actions).double().cpu().numpy())
        order += places
    scores: Scores = np.concatenate(batches, axis=1)[:, np.argsort(order)]
    return scores


def read_video(bench: Bench, rows: Sequence[int], place: int) -> Tensor:
    """The video (1, T, 3, H, W), uint8, of the pair `rows[place]`."""
    return torch.from_numpy(np.ascontiguousarray(bench.clip(rows[place])[0].transpose(0, 3, 1, 2)))[None]


@torch.no_grad()
def observe_pairs(model: RewardModel, bench: Bench, rows: Sequence[int]) -> list[Observation]:
    """The observation of each pair by a reward model, a batch of one clip each without padding, on the CPU.

    Without the videos of an appearance encoder, which are many gigabytes: `read_video` has them.
    """
    result: dict[int, Observation] = {}
    for places, videos, actions in clips_of(bench, rows):
        batch = model.observe(videos, actions)
        for index, place in enumerate(places):
            clip = slice(index, index + 1)
            result[place] = Observation(
                batch.states[:, clip].cpu(), batch.rest[clip].cpu(), batch.valid[clip].cpu(), batch.motion[clip].cpu(),
                None,
                None if batch.lengths is None else batch.lengths[clip].cpu(),
            )  # fmt: skip
    return [result[place] for place in range(len(rows))]


@dataclass(frozen=True)
class SetPlan:
    """How pairs are combined to sets: rollouts of one prompt as groups, all other pairs at random."""

    groups: tuple[tuple[int, ...], ...]
    """Indices of the rollouts of each group."""
    singles: tuple[int, ...]
    """Indices of all other pairs."""
    size: int
    """Clips of a set."""
    group_share: float
    """Probability that a set is a group."""

    @classmethod
    def of(cls, bench: Bench, rows: Sequence[int], size: int, group_share: float) -> "SetPlan":
        """The plan of the pairs `rows`. The rollouts of groups smaller than `size` count as single pairs."""
        groups: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(bench.pairs[row].group, []).append(place)
        singles = [*groups.pop("", [])]
        singles += [place for places in groups.values() if len(places) < size for place in places]
        whole = tuple(tuple(places) for places in groups.values() if len(places) >= size)
        share = 0.0 if not whole else 1.0 if not singles else group_share
        return cls(whole, tuple(singles), size, share)

    def draw(self, number: int, seed: int) -> tuple[list[int], bool]:
        """The indices of the clips of a set, and whether they are a group; determined by `number` and `seed`."""
        rng = np.random.default_rng((seed, number))
        if rng.random() < self.group_share:
            group = self.groups[int(rng.integers(len(self.groups)))]
            return [group[index] for index in rng.permutation(len(group))[: self.size]], True
        return [self.singles[index] for index in rng.integers(len(self.singles), size=self.size)], False


class ObservedSets(Dataset[SetBatch]):
    """Sets of observed pairs with their targets, normalised scores (N, 2, D)."""

    def __init__(
        self,
        observations: Sequence[Observation],
        words: Tensor,
        targets: Scores,
        plan: SetPlan,
        seed: int,
        read: Callable[[int], Tensor] | None = None,
    ) -> None:
        """Prepare sets of observed pairs.

        Args:
            observations: Of each pair.
            words: Word numbers (N, L).
            targets: Normalised scores (N, 2, D).
            plan: Which pairs form sets.
            seed: Seed of the sets.
            read: Reads the video (1, T, 3, H, W) of a pair when a set needs it, for an appearance encoder.

        Raises:
            ValueError: Observations, words and targets differ in number, or `read` is missing.
        """
        if not len(observations) == len(words) == len(targets):
            raise ValueError(f"{len(observations)} observations have {len(words)} texts and {len(targets)} targets")
        self.plan, self.seed, self.words = plan, seed, words
        self.targets = torch.from_numpy(targets).float()
        longest = max((item.valid.shape[1] for item in observations), default=0)
        # Padded once, so that a training step only gathers rows.
        self.states = torch.cat([_pad(item.states, longest).transpose(0, 1) for item in observations])
        self.rest = torch.cat([_pad(item.rest, longest) for item in observations])
        self.valid = torch.cat([_pad(item.valid.unsqueeze(-1), longest)[..., 0] for item in observations])
        self.motion = torch.cat([item.motion for item in observations])
        self.lengths = [int(item.lengths) for item in observations if item.lengths is not None]
        if self.lengths and read is None:
            raise ValueError("observations for an appearance encoder need `read`, which reads their videos")
        self.read = read

    def __len__(self) -> int:
        return SETS

    def __getitem__(self, number: int) -> SetBatch:
        places, grouped = self.plan.draw(number, self.seed)
        batch: SetBatch = {
            "states": self.states[places],
            "rest": self.rest[places],
            "valid": self.valid[places],
            "motion": self.motion[places],
            "words": self.words[places],
            "target": self.targets[places],
            "grouped": torch.tensor(float(grouped)),
        }
        if self.lengths and self.read is not None:
            frames = max(self.lengths)
            videos = [self.read(place) for place in places]
            batch["lengths"] = torch.tensor([video.shape[1] for video in videos])
            batch["videos"] = torch.cat(
                [torch.nn.functional.pad(video, (0, 0, 0, 0, 0, 0, 0, frames - video.shape[1])) for video in videos]
            )
        return batch


def _pad(values: Tensor, count: int) -> Tensor:
    """Values (..., K, C), padded with zeros to `count` frames."""
    return torch.nn.functional.pad(values, (0, 0, 0, count - values.shape[-2]))
