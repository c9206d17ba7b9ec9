"""Compares what this installation makes of a reference set with what the set expects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from roboalign.bench.exported import parse_record
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import Bench, BenchError
from roboalign.evaluation.spec import ScorerName
from roboalign.io import digest
from roboalign.reference.records import FILE, ReferenceScores, ReferenceSet
from roboalign.reference.score import cell_levels, compute_label, frames_digest, score_clips, scorer_path
from roboalign.reward.rubric import limits_from_json
from roboalign.store import Corpus


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far an installation agrees with a reference set in one respect."""

    name: str
    """`frames`, `labels`, or a scorer."""
    checked: int
    """Number of clips that were compared."""
    differing: tuple[str, ...]
    """Ids of the clips that differ by more than the tolerance."""
    largest: float
    """The largest difference: of raw scores in one dimension, or of a cell's mean level."""
    tolerance: float
    problem: str = ""
    """Why this could not be compared at all, and the remedy; '' if it was."""

    @property
    def alike(self) -> bool:
        """Whether all clips agree."""
        return not self.differing and not self.problem

    def __str__(self) -> str:
        if self.problem:
            return f"{self.name}: not compared: {self.problem}"
        agreeing = self.checked - len(self.differing)
        line = f"{self.name}: {agreeing} of {self.checked} clips alike, largest difference {self.largest:.2g}, "
        line += f"tolerance {self.tolerance:g}"
        return f"{line}; differing: {', '.join(self.differing)}" if self.differing else line


def check_reference(folder: Path, models: Path, root: Path, device: str) -> Iterator[Agreement]:
    """Compare frames, labels, and the scores of each scorer.

    Args:
        folder: The reference set.
        models: A folder with `judge/model.safetensors` and `student/model.safetensors`.
        root: The checkout, for a judge behind a server.
        device: `cpu` or `cuda`.

    Raises BenchError or StoreError if a file of the set or a checkpoint is missing or damaged.
    """
    expected = read_reference(folder)
    corpus = Corpus.open(folder / "sources/index.json")
    bench = Bench.open(folder / "bench", corpus, expected.reward.names)
    if [pair.id for pair in bench.pairs] != [clip.clip for clip in expected.clips]:
        raise BenchError(f"{folder / FILE}: its clips are not those of bench/pairs.parquet; get the folder again")
    yield compare_frames(expected, bench)
    yield compare_labels(expected, bench, corpus)
    for name, value in expected.scorers.items():
        yield compare_scores(expected, bench, name, value, scorer_path(models, name), root, device)


def read_reference(folder: Path) -> ReferenceSet:
    """Read `reference.json`. Raises BenchError if it is missing or not valid."""
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{folder / FILE} cannot be read ({error}); get the folder again") from None
    return parse_record(ReferenceSet, folder / FILE, text)


def compare_frames(expected: ReferenceSet, bench: Bench) -> Agreement:
    """The clips' frames: degradations are computed again."""
    differences = {}
    for number, clip in enumerate(expected.clips):
        frames = bench.frames(number)
        levels = cell_levels(frames)
        if frames_digest(frames) == clip.digest:
            differences[clip.clip] = 0.0
        elif len(levels) != len(clip.levels):
            differences[clip.clip] = float("inf")
        else:
            # Other pixels are not the same clip only because their means round to the same.
            differences[clip.clip] = max(float(np.abs(np.subtract(levels, clip.levels)).max()), 1e-3)
    return _agreement("frames", differences, expected.level_tolerance)


def compare_labels(expected: ReferenceSet, bench: Bench, corpus: Corpus) -> Agreement:
    """The labels that recorded states and declared losses determine."""
    labeller = replace(
        PairLabeller.of(corpus, expected.bench, expected.reward),
        limits=limits_from_json(expected.limits),
        fitted_cameras={(each.source, each.task): np.array(each.matrix) for each in expected.cameras},
    )
    differences = {}
    for pair, clip in zip(bench.pairs, expected.clips, strict=True):
        if clip.label is not None:
            differences[clip.clip] = difference(compute_label(labeller, pair), clip.label)
    return _agreement("labels", differences, expected.label_tolerance)


def compare_scores(
    expected: ReferenceSet, bench: Bench, name: ScorerName, value: str, path: Path, root: Path, device: str
) -> Agreement:
    """The scores of one scorer, whose checkpoint has the hash `value`."""
    problem = ""
    if not path.exists():
        problem = f"{path} is missing; get it with the reference set, or name a folder of checkpoints by --models"
    elif digest([path]) != value:
        problem = f"{path} is not the checkpoint of the reference set, so its scores are others"
    if problem:
        return Agreement(name, 0, (), 0.0, expected.score_tolerance, problem)
    scores = score_clips(path, name, bench, root, device)
    differences = {
        clip.clip: difference(own, clip.scores[name]) for own, clip in zip(scores, expected.clips, strict=True)
    }
    return _agreement(name, differences, expected.score_tolerance)


def difference(own: ReferenceScores, other: ReferenceScores) -> float:
    """The largest difference of two clips' scores in one dimension; infinite if only one has a kind of scores."""
    if (own.faithful is None) != (other.faithful is None):
        return float("inf")
    pairs: list[tuple[Sequence[float], Sequence[float]]] = [(own.absolute, other.absolute)]
    if own.faithful is not None and other.faithful is not None:
        pairs.append((own.faithful, other.faithful))
    return max(float(np.abs(np.subtract(left, right)).max()) for left, right in pairs)


def _agreement(name: str, differences: dict[str, float], tolerance: float) -> Agreement:
    """The agreement from the difference of each clip."""
    differing = tuple(clip for clip, value in differences.items() if not value <= tolerance)
    return Agreement(name, len(differences), differing, max(differences.values(), default=0.0), tolerance)
