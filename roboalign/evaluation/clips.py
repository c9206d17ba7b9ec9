"""The clip sets that the rollout stage wrote, and the true episodes that they belong to."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roboalign.io import read_json
from roboalign.store import Corpus, EpisodeStore
from roboalign.types import Float32, UInt8

OTHER_ACTIONS = "other_actions"
"""The clip set of rollouts under another episode's actions: to be looked at. No truth belongs to it, and no score."""


@dataclass(frozen=True)
class Clip:
    """One video: the episode whose first frame and instruction it has, and the number of its sample."""

    episode: str
    sample: int
    instruction: str
    frames: UInt8
    """(T, H, W, 3); frame 0 is the recorded one."""
    actions: Float32
    """(T - 1, A) in [-1, 1]: what led to frames 1 ... T - 1."""


@dataclass(frozen=True)
class ClipSet:
    """Clips of one model, decoding and sampling. Clip i is episode `episodes[i]`, sample `samples[i]`."""

    name: str
    model: str
    decoding: str
    sampling: str
    folder: Path
    episodes: tuple[str, ...]
    samples: tuple[int, ...]

    @property
    def best_of_n(self) -> bool:
        """Whether its clips are candidates, of which the best of each episode counts."""
        return self.name.startswith("best_of_")

    @property
    def is_scorable(self) -> bool:
        """Whether a scorer may judge its clips by their episode's instruction and outcome."""
        return self.name != OTHER_ACTIONS

    def clips(self) -> Iterator[Clip]:
        """All clips in their order. Raises ValueError where the store does not hold what the index lists."""
        store = EpisodeStore(self.folder)
        if len(store) != len(self.episodes):
            raise ValueError(
                f"{self.folder} holds {len(store)} clips, its index lists {len(self.episodes)}; run `dvc repro rollout`"
            )
        for number, (episode, sample) in enumerate(zip(self.episodes, self.samples, strict=True)):
            instruction, actions = store.infos[number].instruction, store.actions(number)[:-1]
            yield Clip(episode, sample, instruction, store.frames(number), actions)

    def frames(self, episode: str, sample: int) -> UInt8:
        """The frames of one clip. Raises KeyError where the set has no such clip."""
        for number, key in enumerate(zip(self.episodes, self.samples, strict=True)):
            if key == (episode, sample):
                return EpisodeStore(self.folder).frames(number)
        raise KeyError(f"{self.name} has no clip of {episode}, sample {sample}")


def read_clip_sets(folder: Path) -> dict[str, ClipSet]:
    """The clip sets of a rollout's output folder, by name, in the order of its index.

    Raises ValueError where the index is damaged or empty.
    """
    path = folder / "index.json"
    try:
        sets = [
            ClipSet(
                entry["name"],
                entry["model"],
                entry["decoding"],
                entry["sampling"],
                folder / entry["folder"],
                tuple(entry["episodes"]),
                tuple(entry["samples"]),
            )
            for entry in read_json(path)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no index of clips ({error!r}); run `dvc repro rollout`") from None
    if not sets:
        raise ValueError(f"{path} lists no clips; run `dvc repro rollout`")
    return {one.name: one for one in sets}


def true_clips(corpus: Corpus, like: ClipSet) -> Iterator[Clip]:
    """The recorded frames of the episodes of `like`, as long as its clips, each episode once.

    Raises ValueError where the corpus lacks an episode: the clips then come from other recordings.
    """
    numbers = {info.id: number for number, info in enumerate(corpus.infos)}
    lengths = {
        episode: info.length for episode, info in zip(like.episodes, EpisodeStore(like.folder).infos, strict=True)
    }
    for episode, length in lengths.items():
        if episode not in numbers:
            raise ValueError(f"{like.name} has a clip of {episode}, which no source recorded; run `dvc repro`")
        number = numbers[episode]
        actions = corpus.actions(number)[: length - 1]
        yield Clip(episode, 0, corpus.infos[number].instruction, corpus.frames(number, 0, length), actions)
