"""The clip sets that the rollout stage writes, and the recorded episodes that they belong to."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from roboalign.io import read_json
from roboalign.store import Corpus, EpisodeStore
from roboalign.types import Float32, UInt8

OTHER_ACTIONS = "other_actions"
"""The clip set of rollouts with another episode's actions. It is shown in the report only, because it has no true
outcome and so no scores."""


@dataclass(frozen=True)
class Clip:
    """One video; `episode` is the source of its first frame and instruction, `sample` numbers the episode's clips."""

    episode: str
    sample: int
    instruction: str
    frames: UInt8
    """(T, H, W, 3); frame 0 is recorded."""
    actions: Float32
    """(T - 1, A) in [-1, 1], leading to frames 1 ... T - 1."""


@dataclass(frozen=True)
class ClipSet:
    """The clips of one model, decoding and sampling. Clip i is of episode `episodes[i]`, sample `samples[i]`."""

    name: str
    model: str
    decoding: str
    sampling: str
    folder: Path
    episodes: tuple[str, ...]
    samples: tuple[int, ...]

    @property
    def best_of_n(self) -> bool:
        """Whether the clips are candidates, of which only the best of each episode is used."""
        return re.fullmatch(r"\w+\.best_of_\d+", self.name) is not None

    @property
    def is_scorable(self) -> bool:
        """Whether the clips can be scored by their episode's instruction and true outcome."""
        return self.name != OTHER_ACTIONS

    def clips(self, rows: Sequence[int] | None = None) -> Iterator[Clip]:
        """The clips of `rows`, or all, in order.

        Raises ValueError if the store has another number of clips than the index.
        """
        store = EpisodeStore(self.folder)
        if len(store) != len(self.episodes):
            raise ValueError(
                f"{self.folder} has {len(store)} clips, but its index lists {len(self.episodes)}; run `dvc repro "
                "rollout`"
            )
        for number in range(len(store)) if rows is None else rows:
            episode, sample = self.episodes[number], self.samples[number]
            instruction, actions = store.infos[number].instruction, store.actions(number)[:-1]
            yield Clip(episode, sample, instruction, store.frames(number), actions)

    def frames(self, episode: str, sample: int) -> UInt8:
        """The frames (T, H, W, 3) of one clip. Raises KeyError if the set does not have it."""
        for number, key in enumerate(zip(self.episodes, self.samples, strict=True)):
            if key == (episode, sample):
                return EpisodeStore(self.folder).frames(number)
        raise KeyError(f"{self.name} has no clip of {episode}, sample {sample}")


def read_clip_sets(folder: Path) -> dict[str, ClipSet]:
    """Read the clip sets of the rollout stage's output folder, by name, in the order of its index.

    Raises ValueError if the index is damaged or empty.
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
        raise ValueError(f"{path} is not an index of clips ({error!r}); run `dvc repro rollout`") from None
    if not sets:
        raise ValueError(f"{path} lists no clips; run `dvc repro rollout`")
    return {one.name: one for one in sets}


def true_clips(corpus: Corpus, like: ClipSet, rows: Sequence[int] | None = None) -> Iterator[Clip]:
    """The recorded clips of the episodes of `like`, each episode once, with the same lengths; `rows` of them, or all.

    Raises ValueError if the corpus does not have an episode, because the clips are then from other recordings.
    """
    numbers = {info.id: number for number, info in enumerate(corpus.infos)}
    lengths = {
        episode: info.length for episode, info in zip(like.episodes, EpisodeStore(like.folder).infos, strict=True)
    }
    known = list(lengths.items())
    for episode, length in known if rows is None else (known[row] for row in rows):
        if episode not in numbers:
            raise ValueError(f"{like.name} has a clip of {episode}, which is not in any source; run `dvc repro`")
        number = numbers[episode]
        actions = corpus.actions(number)[: length - 1]
        yield Clip(episode, 0, corpus.infos[number].instruction, corpus.frames(number, 0, length), actions)
