"""The pairs of the bench: recipe, scores and provenance of each. Degraded clips are recomputed when they are read.

```
artifacts/bench/pairs.parquet          one row a pair; generated clips are labelled through the judge's state probe
artifacts/bench/pairs_gold.parquet, pairs_held_out.parquet    the same rows, labelled through the other two probes
artifacts/bench/limits.json            the rubric's limits by source, from recorded states
artifacts/bench/probed_limits/*.json   the same from probed states, one file a state probe
artifacts/bench/generated/             an episode store of the world models' rollouts, if there are any
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

from roboalign.bench.degradations import degrade, moves_object
from roboalign.bench.labels import Provenance
from roboalign.bench.spec import DegradationKind
from roboalign.io import replacing
from roboalign.probe.spec import ProbeName
from roboalign.store import Corpus, EpisodeStore
from roboalign.types import Float32, Split, UInt8

Origin = Literal["real", "policy", "degraded", "generated", "group"]
"""The origin of a clip, see OriginsSpec. `group`: one of several rollouts of one prompt, see GroupsSpec."""

LABEL_FILES: dict[ProbeName, str] = {
    "judge": "pairs.parquet", "gold": "pairs_gold.parquet", "held_out": "pairs_held_out.parquet",
}  # fmt: skip
"""The file of the pairs by the state probe that labelled them. Only the labels of generated clips differ."""

CACHE_BYTES = 2**29
"""Size of the cache of decoded episodes."""

SCORE, FAITHFUL = "score_", "faithful_"
"""Prefixes of the columns of absolute and of faithful scores."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One video-instruction pair."""

    id: str
    """Hash of the recipe, see `pair_id`: the same clip has the same id in every bench, whatever its label."""
    episode: str
    """Id of the recorded episode."""
    source: str
    split: Split
    start: int
    """First frame of the clip in the episode."""
    stop: int
    """Index after its last frame, before degradation."""
    instruction: str
    """The instruction by which the clip is judged; another task's if it was swapped."""
    origin: Origin
    degradation: DegradationKind | Literal[""]
    severity: float
    seed: int
    other: str
    """Id of the episode with which a splice continues, or whose actions the clip is paired with, or ''."""
    generated: int
    """Index of the clip in the store of generated clips, or -1."""
    model: str
    """World model that generated the clip, or ''; for a rollout of a group with its decoding: `final.swr.sampled`."""
    group: str
    """Prompt that a rollout of a group shares with the others of the group, or ''."""
    judged: bool
    """Whether judges are trained and tested on it: video and instruction show what the label says."""
    provenance: Provenance
    """How the label was obtained; see roboalign/bench/labels.py."""
    scores: tuple[float, ...]
    """Raw absolute scores (paper) of what the clip shows, in the order of the reward's dimensions."""
    faithful: tuple[float, ...]
    """Raw faithful scores: agreement of what the clip shows with the true outcome of its actions."""


def pair_id(pair: Pair, scene: str, frames: UInt8 | None = None) -> str:
    """The id of a pair, 16 hex digits: a hash of its recipe and of its episode's initial scene.

    The frames of a generated clip enter too, since other weights would change them.
    """
    recipe = (
        pair.episode, scene, pair.start, pair.stop, pair.instruction, pair.degradation, f"{pair.severity:.6g}",
        pair.seed if pair.degradation else 0, pair.other, pair.model, pair.group,
    )  # fmt: skip
    state = hashlib.blake2b("\n".join(map(str, recipe)).encode(), digest_size=8)
    if frames is not None:
        state.update(np.ascontiguousarray(frames).tobytes())
    return state.hexdigest()


class BenchError(ValueError):
    """A bench cannot be built or read; the message names the remedy."""


def write_pairs(path: Path, pairs: Sequence[Pair], dimensions: Sequence[str]) -> None:
    """Write pairs as Parquet, with columns `score_<dimension>` and `faithful_<dimension>`; deterministic."""
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
    """The pairs in a file. Raises BenchError if it cannot be read or has other dimensions."""
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise BenchError(f"{path} cannot be read ({error}); run `dvc repro bench`") from None
    names = [field.name for field in fields(Pair) if field.name not in ("scores", "faithful")]
    expected = {*names, *(f"{prefix}{name}" for prefix in (SCORE, FAITHFUL) for name in dimensions)}
    if rows and set(rows[0]) != expected:
        different = ", ".join(sorted(set(rows[0]) ^ expected))
        raise BenchError(f"{path}: its columns differ from the reward's ({different}); run `dvc repro bench`")
    return tuple(
        Pair(
            **{name: row[name] for name in names},
            scores=tuple(row[f"{SCORE}{name}"] for name in dimensions),
            faithful=tuple(row[f"{FAITHFUL}{name}"] for name in dimensions),
        )
        for row in rows
    )


class Bench:
    """The pairs with their clips, computed when they are read. Decoded episodes are cached up to CACHE_BYTES."""

    def __init__(self, pairs: Sequence[Pair], corpus: Corpus, generated: EpisodeStore | None = None) -> None:
        self.pairs = tuple(pairs)
        self._generated = generated
        index = {info.id: number for number, info in enumerate(corpus.infos)}
        missing = {pair.episode for pair in pairs} - set(index)
        if missing:
            raise BenchError(f"the bench has episodes that the sources lack ({min(missing)}); run `dvc repro bench`")
        largest = max(info.length for info in corpus.infos) * corpus.frames(0, 0, 1).nbytes if len(corpus) else 1
        self._frames = lru_cache(maxsize=max(2, CACHE_BYTES // largest))(lambda id_: corpus.frames(index[id_]))
        self._keypoints = lru_cache(maxsize=None)(lambda id_: corpus.keypoints(index[id_]))
        self._actions = lru_cache(maxsize=None)(lambda id_: corpus.actions(index[id_]))

    @classmethod
    def open(cls, folder: Path, corpus: Corpus, dimensions: Sequence[str], labels: ProbeName = "judge") -> "Bench":
        """Open `artifacts/bench` with the labels by one state probe.

        Args:
            folder: `artifacts/bench`.
            corpus: The recorded episodes.
            dimensions: Names of the reward's dimensions.
            labels: The state probe.

        Raises BenchError if the bench does not fit the sources or the reward.
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
        """The indices of each group of rollouts of one prompt; with `frames`, only groups of that many predictions."""
        groups: dict[str, list[int]] = {}
        for number, pair in enumerate(self.pairs):
            if pair.group and pair.split == split and frames in (None, pair.stop - pair.start - 1):
                groups.setdefault(pair.group, []).append(number)
        return list(groups.values())

    def actions(self, number: int) -> Float32:
        """The actions (T - 1, A), in [-1, 1], that led to frames 1 to T - 1 of a pair's clip.

        Rearranged frames do not rearrange the actions. Swapped actions are those of the other episode.
        """
        pair = self.pairs[number]
        episode = pair.other if pair.degradation == "swapped_actions" else pair.episode
        return self._actions(episode)[pair.start : pair.stop - 1]

    def clip(self, number: int) -> tuple[UInt8, Float32]:
        """The clip (T, H, W, 3) of a pair and its T - 1 actions, cut or padded with zeros to that length."""
        frames, actions = self.frames(number), self.actions(number)
        count = len(frames) - 1
        return frames, np.pad(actions[:count], ((0, max(0, count - len(actions))), (0, 0)))

    def filter(self, *, split: Split, hidden: bool = False) -> list[int]:
        """The indices of a split's pairs that judges are trained and tested on; with `hidden`, of all pairs."""
        return [number for number, pair in enumerate(self.pairs) if pair.split == split and (pair.judged or hidden)]

    def frames(self, number: int) -> UInt8:
        """The clip (T, H, W, 3) of a pair."""
        pair = self.pairs[number]
        if pair.generated >= 0:
            if self._generated is None:
                raise BenchError("the bench's generated clips are missing; run `dvc repro bench`")
            return self._generated.frames(pair.generated)
        clip = slice(pair.start, pair.stop)
        frames = self._frames(pair.episode)[clip]
        if pair.degradation == "":
            return frames
        other = self._frames(pair.other) if pair.degradation == "splice" else None
        keypoints = self._keypoints(pair.episode) if moves_object(pair.degradation) else None
        return degrade(
            pair.degradation, frames, pair.severity, pair.seed, other, None if keypoints is None else keypoints[clip]
        )
