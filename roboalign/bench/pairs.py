"""The pairs of the bench: one row of recipe, scores and provenance each; clips are made anew when they are read.

```
artifacts/bench/pairs.parquet   the rows, generated clips labelled through the judge's state probe
artifacts/bench/pairs_gold.parquet, pairs_held_out.parquet    the same rows, labelled through the other two
artifacts/bench/limits.json     the rubric's limits by source
artifacts/bench/generated/      an episode store of the world models' rollouts, where there are any
```
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from roboalign.bench.degradations import degrade, moved_keypoints, moves, rearrange, rearranges
from roboalign.bench.labels import Provenance
from roboalign.bench.spec import DegradationKind
from roboalign.io import replacing
from roboalign.probe.spec import ProbeName
from roboalign.store import Corpus, EpisodeStore
from roboalign.types import KEYPOINT_NAMES, Float32, Split, UInt8

Origin = Literal["real", "policy", "degraded", "generated", "group"]
"""Where a clip comes from; see OriginsSpec. `group`: one of several rollouts of one prompt, see GroupsSpec."""

LABEL_FILES: dict[ProbeName, str] = {
    "judge": "pairs.parquet", "gold": "pairs_gold.parquet", "held_out": "pairs_held_out.parquet",
}  # fmt: skip
"""The pairs with the labels by each state probe. Only the labels of generated clips differ."""

CACHE_BYTES = 2**29
"""Decoded frames that a bench keeps, at most."""

SCORE, FAITHFUL = "score_", "faithful_"
"""Prefixes of the columns with absolute and with faithful scores."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One video-instruction pair."""

    id: str
    """The hash of its recipe, see `identity`: the same clip has the same id in every bench, whatever its label."""
    episode: str
    """Id of the recorded episode."""
    source: str
    split: Split
    start: int
    """First frame of the clip in the episode."""
    stop: int
    """One past its last frame, before degradation."""
    instruction: str
    """What the clip is judged by; not the episode's own where it was swapped."""
    origin: Origin
    degradation: DegradationKind | Literal[""]
    severity: float
    seed: int
    other: str
    """Id of the episode that a splice goes on with, or whose actions the clip is paired with, or ''."""
    generated: int
    """Index of the clip in the store of generated ones, or -1."""
    model: str
    """Which world model generated it, or ''; for a rollout of a group with its decoding: `final.swr.sampled`."""
    group: str
    """The prompt that a rollout of a group shares with the others of the group, or ''."""
    judged: bool
    """Whether judges train and are tested on it: video and instruction show what the label says."""
    provenance: Provenance
    """Where the scores came from; see roboalign/bench/labels.py."""
    scores: tuple[float, ...]
    """Raw absolute scores (paper), in the order of the reward's dimensions: of what the clip shows."""
    faithful: tuple[float, ...]
    """Raw faithful scores: how far what it shows agrees with what its actions truly led to."""


def identity(pair: Pair, scene: str, content: UInt8 | None = None) -> str:
    """The id of a pair, 16 hex digits: the hash of its recipe, of its episode's initial scene, and for a generated clip
    of its frames `content`, which other weights would change."""
    recipe = (
        pair.episode, scene, pair.start, pair.stop, pair.instruction, pair.degradation, f"{pair.severity:.6g}",
        pair.seed if pair.degradation else 0, pair.other, pair.model, pair.group,
    )  # fmt: skip
    state = hashlib.blake2b("\n".join(map(str, recipe)).encode(), digest_size=8)
    if content is not None:
        state.update(np.ascontiguousarray(content).tobytes())
    return state.hexdigest()


class BenchError(ValueError):
    """The bench cannot be read; the message names the file and the remedy."""


def write_pairs(path: Path, pairs: Sequence[Pair], dimensions: Sequence[str]) -> None:
    """Write the rows as Parquet, with columns `score_<dimension>` and `faithful_<dimension>`; the same rows give the
    same bytes."""
    columns: dict[str, list[object]] = {}
    for pair in pairs:
        row = asdict(pair)
        for prefix, key in ((SCORE, "scores"), (FAITHFUL, "faithful")):
            row |= {f"{prefix}{name}": value for name, value in zip(dimensions, row.pop(key), strict=True)}
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def read_pairs(path: Path, dimensions: Sequence[str]) -> tuple[Pair, ...]:
    """What `write_pairs` wrote. Raises BenchError where the file is damaged or of other dimensions."""
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise BenchError(f"{path} cannot be read ({error}); run `dvc repro bench`") from None
    names = [field.name for field in fields(Pair) if field.name not in ("scores", "faithful")]
    expected = {*names, *(f"{prefix}{name}" for prefix in (SCORE, FAITHFUL) for name in dimensions)}
    if rows and set(rows[0]) != expected:
        different = ", ".join(sorted(set(rows[0]) ^ expected))
        raise BenchError(f"{path} has other columns than the reward ({different}); run `dvc repro bench`")
    return tuple(
        Pair(
            **{name: row[name] for name in names},
            scores=tuple(row[f"{SCORE}{name}"] for name in dimensions),
            faithful=tuple(row[f"{FAITHFUL}{name}"] for name in dimensions),
        )
        for row in rows
    )


class Bench:
    """The pairs with their clips, made on reading. Decoded episodes are kept up to CACHE_BYTES."""

    def __init__(self, pairs: Sequence[Pair], corpus: Corpus, generated: EpisodeStore | None = None) -> None:
        self.pairs = tuple(pairs)
        self._generated = generated
        index = {info.id: number for number, info in enumerate(corpus.infos)}
        missing = {pair.episode for pair in pairs} - set(index)
        if missing:
            raise BenchError(f"the bench has episodes that the sources lack ({min(missing)}); run `dvc repro bench`")
        largest = max(info.length for info in corpus.infos) * corpus.frames(0, 0, 1).nbytes if len(corpus) else 1
        kept = max(2, CACHE_BYTES // largest)
        self._frames = lru_cache(maxsize=kept)(lambda id_: corpus.frames(index[id_]))
        self._keypoints = lru_cache(maxsize=None)(lambda id_: corpus.keypoints(index[id_]))
        self._actions = lru_cache(maxsize=None)(lambda id_: corpus.actions(index[id_]))

    @classmethod
    def open(cls, folder: Path, corpus: Corpus, dimensions: Sequence[str], labels: ProbeName = "judge") -> "Bench":
        """Open `artifacts/bench` with the labels by one state probe.

        Raises BenchError if it does not fit the sources or the reward.
        """
        generated = folder / "generated"
        store = EpisodeStore(generated) if generated.exists() else None
        return cls(read_pairs(folder / LABEL_FILES[labels], dimensions), corpus, store)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Raw scores (N, D)."""
        return np.array([pair.scores for pair in self.pairs])

    @property
    def labels(self) -> NDArray[np.float64]:
        """Raw scores (N, 2, D): absolute, then faithful."""
        return np.array([(pair.scores, pair.faithful) for pair in self.pairs])

    def groups(self, *, split: Split, frames: int | None = None) -> list[list[int]]:
        """The numbers of the pairs of each group of rollouts of one prompt; of one length of prediction if given."""
        found: dict[str, list[int]] = {}
        for number, pair in enumerate(self.pairs):
            if pair.group and pair.split == split and frames in (None, pair.stop - pair.start - 1):
                found.setdefault(pair.group, []).append(number)
        return list(found.values())

    def actions(self, number: int) -> Float32:
        """The actions (T - 1, A), in [-1, 1], that led to frames 1 ... T - 1 of a pair's clip.

        A clip whose frames were rearranged keeps the actions in their own order. With swapped actions they are those
        of the other episode.
        """
        pair = self.pairs[number]
        episode = pair.other if pair.degradation == "swapped_actions" else pair.episode
        return self._actions(episode)[pair.start : pair.stop - 1]

    def clip(self, number: int) -> tuple[UInt8, Float32]:
        """The clip (T, H, W, 3) of a pair and T - 1 actions: the first ones, or with zeros behind."""
        frames, actions = self.frames(number), self.actions(number)
        count = len(frames) - 1
        return frames, np.pad(actions[:count], ((0, max(0, count - len(actions))), (0, 0)))

    def where(self, *, split: Split, hidden: bool = False) -> list[int]:
        """The numbers of the pairs of a split that judges train and are tested on; of all, with `hidden` ones."""
        return [number for number, pair in enumerate(self.pairs) if pair.split == split and (pair.judged or hidden)]

    def frames(self, number: int) -> UInt8:
        """The clip (T, H, W, 3) of a pair."""
        pair = self.pairs[number]
        if pair.generated >= 0:
            if self._generated is None:
                raise BenchError("the bench's generated clips are missing; run `dvc repro bench`")
            return self._generated.frames(pair.generated)
        frames = self._frames(pair.episode)[pair.start : pair.stop]
        if pair.degradation == "":
            return frames
        other = self._frames(pair.other) if pair.degradation == "splice" else None
        points = self._keypoints(pair.episode) if moves(pair.degradation) else None
        own = None if points is None else points[pair.start : pair.stop]
        return degrade(pair.degradation, frames, pair.severity, pair.seed, other, own)

    def keypoints(self, number: int) -> Float32:
        """The keypoints (T, 6) of a pair's clip, as it shows them; NaN where they are not known or not shown."""
        pair = self.pairs[number]
        points = self._keypoints(pair.episode)
        if points is None or pair.generated >= 0:
            return np.full((pair.stop - pair.start, len(KEYPOINT_NAMES)), np.nan, np.float32)
        points = points[pair.start : pair.stop]
        if pair.degradation == "":
            return points
        if moves(pair.degradation):
            return moved_keypoints(pair.degradation, points, pair.severity, pair.seed)
        if not rearranges(pair.degradation):
            return points
        order = rearrange(pair.degradation, len(points), pair.severity, np.random.default_rng(pair.seed))
        foreign = self._keypoints(pair.other) if pair.other else None
        return points[order] if foreign is None else np.concatenate([points, foreign])[order]
