"""Writes a reference set from an experiment's bench, judge and student."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path

import roboalign
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import Bench, BenchError, Pair, write_pairs
from roboalign.bench.spec import BenchSpec
from roboalign.evaluation.spec import ScorerName
from roboalign.io import digest, read_json, write_json, write_text
from roboalign.reference.records import FILE, ReferenceCamera, ReferenceClip, ReferenceScores, ReferenceSet
from roboalign.reference.score import (
    SCORERS,
    cell_levels,
    frames_digest,
    is_determined,
    score_clips,
    scorer_path,
    to_record,
)
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus, EpisodeStore, EpisodeWriter

MODEL_BYTES = 64 * 2**20
"""Larger checkpoints are not copied: whoever checks needs them already."""

README = """# Reference clips of RobotWorldBench

{clips} clips with the frames, labels and scores that RoboAlign {version} gives them. To see whether an installation of
RoboAlign scores alike:

    python -m roboalign bench check FOLDER

It makes the degraded clips again, labels them by the rubric, and scores all clips by {scorers}; the tolerances are in
`{file}`. `--models artifacts` scores by an experiment's own checkpoints instead of those in `models/`.
"""


def choose_reference(pairs: Sequence[Pair], count: int) -> list[int]:
    """The indices of `count` pairs of the test split that judges may see, as evenly as possible over sources, origins
    and degradations. Raises BenchError if there are fewer."""
    groups: dict[str, dict[str, list[int]]] = {}
    for number in sorted(range(len(pairs)), key=lambda number: pairs[number].id):
        pair = pairs[number]
        if pair.split == "test" and pair.judged:
            groups.setdefault(pair.degradation or pair.origin, {}).setdefault(pair.source, []).append(number)
    lists = []
    for place, kind in enumerate(sorted(groups)):
        sources = sorted(groups[kind])
        # Each kind begins with another source, so that few clips show several sources.
        start = place % len(sources)
        lists.append(interleave([groups[kind][source] for source in sources[start:] + sources[:start]]))
    # Two groups may hold the same clip, drawn twice.
    rows = list({pairs[number].id: number for number in interleave(lists)}.values())[:count]
    if len(rows) < count:
        raise BenchError(f"--reference is {count}, but the test split has {len(rows)} different clips; lower it")
    return rows


def interleave(lists: Sequence[Sequence[int]]) -> list[int]:
    """The first numbers of all lists, then the second ones, and so on."""
    return [number for each in zip_longest(*lists) for number in each if number is not None]


def write_reference(
    folder: Path, root: Path, rows: Sequence[int], spec: BenchSpec, reward: RewardSpec, device: str
) -> ReferenceSet:
    """Write a reference set of the pairs `rows` of an experiment's bench into a new folder, whole or not at all.

    Args:
        folder: The folder; must not exist.
        root: The checkout of the experiment.
        rows: Indices of pairs, see `choose_reference`.
        spec: The bench's spec.
        reward: The reward.
        device: `cpu` or `cuda`, for judge and student.

    Raises BenchError, StoreError or OSError if something of the experiment is missing or damaged.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        record = _write(Path(temporary) / "reference", root, rows, spec, reward, device)
        (Path(temporary) / "reference").rename(folder)
    return record


def _write(
    folder: Path, root: Path, rows: Sequence[int], spec: BenchSpec, reward: RewardSpec, device: str
) -> ReferenceSet:
    artifacts = root / "artifacts"
    corpus = Corpus.open(artifacts / "sources/index.json")
    bench = Bench.open(artifacts / "bench", corpus, reward.names)
    labeller = PairLabeller.of(corpus, spec, reward)
    chosen = [bench.pairs[row] for row in rows]
    needed = {name for pair in chosen for name in (pair.episode, pair.other) if name}
    copy_episodes(folder, artifacts / "sources/index.json", corpus, needed)
    write_pairs(
        folder / "bench/pairs.parquet", copy_generated(folder, artifacts / "bench/generated", chosen), reward.names
    )
    copied = Bench.open(folder / "bench", Corpus.open(folder / "sources/index.json"), reward.names)
    models = {name: scorer_path(artifacts, name) for name in SCORERS}
    scores = {name: score_clips(path, name, copied, root, device) for name, path in models.items()}
    for name, path in models.items():
        if path.stat().st_size <= MODEL_BYTES:
            target = scorer_path(folder / "models", name)
            target.parent.mkdir(parents=True)
            shutil.copy(path, target)
    record = ReferenceSet(
        roboalign=roboalign.__version__,
        bench=spec,
        reward=reward,
        limits={source: asdict(limits) for source, limits in labeller.limits.items()},
        cameras=tuple(
            ReferenceCamera(source=source, task=task, matrix=matrix.tolist())
            for (source, task), matrix in labeller.cameras.items()
        ),
        scorers={name: digest([path]) for name, path in models.items()},
        clips=tuple(_clip(copied, number, scores) for number in range(len(copied))),
    )
    write_text(folder / FILE, record.model_dump_json(indent=1) + "\n")
    write_text(
        folder / "README.md",
        README.format(clips=len(rows), version=roboalign.__version__, scorers=" and ".join(SCORERS), file=FILE),
    )
    return record


def _clip(bench: Bench, number: int, scores: Mapping[ScorerName, Sequence[ReferenceScores]]) -> ReferenceClip:
    """The record of a pair: its label in the bench, and the scores that this installation gives it."""
    pair, frames = bench.pairs[number], bench.frames(number)
    return ReferenceClip(
        clip=pair.id,
        digest=frames_digest(frames),
        levels=cell_levels(frames),
        label=to_record(pair.scores, pair.faithful) if is_determined(pair) else None,
        scores={name: values[number] for name, values in scores.items()},
    )


def copy_episodes(folder: Path, index: Path, corpus: Corpus, needed: set[str]) -> None:
    """Copy recorded episodes, one store a source, with an index that keeps the sources' action ranges.

    Of a source without any of them the first episode is copied, since every source counts for the width of actions.
    """
    entries = read_json(index)["sources"]
    numbers: dict[str, list[int]] = {}
    first: dict[str, list[int]] = {}
    for number, info in enumerate(corpus.infos):
        first.setdefault(info.source, [number])
        if info.id in needed:
            numbers.setdefault(info.source, []).append(number)
    copied = {}
    for source, own in (first | numbers).items():
        place = folder / "episodes" / source
        with EpisodeWriter(place, fps=corpus.frame_rates()[source]) as writer:
            for number in own:
                store, episode = corpus.locations[number]
                kept = corpus.stores[store]
                assert isinstance(kept, EpisodeStore)
                writer.append(kept, episode)
        frames = sum(corpus.infos[number].length for number in own)
        copied[source] = entries[source] | {
            "folder": f"episodes/{source}", "content": digest([place]), "episodes": len(own), "frames": frames,
            "splits": {},
        }  # fmt: skip
    write_json(folder / "sources/index.json", {"sources": copied})


def copy_generated(folder: Path, generated: Path, pairs: Sequence[Pair]) -> list[Pair]:
    """Copy the generated clips of pairs; the pairs with the clips' indices in the copy."""
    rollouts = [pair for pair in pairs if pair.generated >= 0]
    if not rollouts:
        return list(pairs)
    store = EpisodeStore(generated)
    with EpisodeWriter(folder / "bench/generated", fps=store.fps) as writer:
        for pair in rollouts:
            writer.append(store, pair.generated)
    places = {pair.id: place for place, pair in enumerate(rollouts)}
    return [replace(pair, generated=places[pair.id]) if pair.generated >= 0 else pair for pair in pairs]
