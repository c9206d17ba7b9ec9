"""How far a scorer's scores lie from the labels, as intervals: split conformal prediction on the validation pairs.

A scorer never saw the validation pairs. Its absolute errors on n of them, sorted, are all that an interval needs: half
of its width is the error of rank ceil((n + 1) * level). For clips that are drawn as those are, such an interval holds
the label with a probability of at least `level`, whatever the scorer and however its errors are distributed (Vovk et
al.). For other clips nothing is promised, and n pairs of one episode tell less than pairs of n episodes.

Judges err more on rollouts than on recordings, so that there are intervals of two kinds: from all pairs, and from the
generated ones alone, for the rollouts of a world model.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from roboalign.bench.agreement import Scores, sections
from roboalign.bench.pairs import Bench
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus, EpisodeStore
from roboalign.types import Json

LEVEL = 0.9
"""The level that metrics report."""

TOTAL = "total"

Kind = Literal["all", "generated"]
"""Which validation pairs an interval rests on."""

KINDS: tuple[Kind, ...] = ("all", "generated")


class Errors(BaseModel):
    """A scorer's errors on validation pairs of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pairs: int
    episodes: int
    """How many episodes the pairs are of."""
    sizes: dict[str, tuple[float, ...]]
    """The absolute errors, by dimension and in total, from the smallest to the largest."""

    def half_width(self, name: str, level: float) -> float | None:
        """Half of the width of a dimension's interval, or of the total's; None where there are too few pairs for the
        level: n pairs reach n / (n + 1)."""
        rank = math.ceil((self.pairs + 1) * level - 1e-9)
        return self.sizes[name][rank - 1] if 1 <= rank <= self.pairs else None


class Calibration(BaseModel):
    """What a scorer was trained on, and its errors: `calibration.json` beside its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: int
    """Rows of the pictures that it was trained on."""
    width: int
    """Columns of them."""
    frames: tuple[int, int]
    """Frames of the shortest and the longest clip."""
    fps: tuple[float, float]
    """Frames per second of the slowest and the fastest source."""
    errors: dict[Kind, Errors]

    def usable(self, kind: Kind, level: float) -> Kind:
        """`kind`, or `all` where it has too few pairs for intervals of the level."""
        return kind if self.errors[kind].half_width(TOTAL, level) is not None else "all"


def calibrate(
    bench: Bench,
    corpus: Corpus,
    reward: RewardSpec,
    train: Sequence[int],
    validation: Sequence[int],
    scores: Scores | None,
) -> Calibration:
    """The calibration of a scorer that was trained on the pairs `train` and gives the pairs `validation` these raw
    scores (N, D). Without validation pairs, whose scores are None, there will be no intervals."""
    lengths = [bench.pairs[row].stop - bench.pairs[row].start for row in train]
    rates = [store.fps for store in corpus.stores if isinstance(store, EpisodeStore)]
    height, width = bench.frames(train[0]).shape[1:3]
    values = np.empty((0, len(reward.names))) if scores is None else scores
    generated = np.array([bench.pairs[row].origin == "generated" for row in validation], dtype=bool)
    masks: dict[Kind, NDArray[np.bool_]] = {"all": np.ones(len(validation), dtype=bool), "generated": generated}
    return Calibration(
        height=height,
        width=width,
        frames=(min(lengths), max(lengths)),
        fps=(min(rates), max(rates)),
        errors={
            kind: errors(bench, [row for row, one in zip(validation, mask, strict=True) if one], values[mask], reward)
            for kind, mask in masks.items()
        },
    )


def errors(bench: Bench, rows: Sequence[int], scores: Scores, reward: RewardSpec) -> Errors:
    """The errors of raw scores (N, D) of the pairs `rows`."""
    sizes = distances(scores, bench.scores[list(rows)], reward)
    return Errors(
        pairs=len(rows),
        episodes=len({bench.pairs[row].episode for row in rows}),
        sizes={name: tuple(float(f"{value:.6g}") for value in np.sort(column)) for name, column in sizes.items()},
    )


def distances(scores: Scores, labels: Scores, reward: RewardSpec) -> dict[str, Scores]:
    """The absolute errors of scores (N, D), by dimension and in total."""
    columns = {name: np.abs(scores[:, k] - labels[:, k]) for k, name in enumerate(reward.names)}
    return columns | {TOTAL: np.abs(scores.sum(1) - labels.sum(1))}


def coverage(
    known: Errors, scores: Scores, labels: Scores, reward: RewardSpec, level: float = LEVEL
) -> dict[str, Json]:
    """The share of labels (N, D) within the intervals around raw scores (N, D), by dimension and in total.

    Intervals are cut to the range of the scores, which changes no share; a dimension without one is left out.
    """
    result: dict[str, Json] = {}
    for name, far in distances(scores, labels, reward).items():
        half = known.half_width(name, level)
        if half is not None:
            result[name] = float((far <= half + 1e-6).mean())
    return result


def interval_metrics(
    calibration: Calibration,
    scores: Scores,
    bench: Bench,
    rows: Sequence[int],
    train: Sequence[int],
    reward: RewardSpec,
    level: float = LEVEL,
) -> dict[str, Json]:
    """The `interval` of metrics/judge.json and metrics/student.json, of raw scores (N, D) of the test pairs `rows`.

    By the kind of interval: the pairs and episodes that it rests on, half of its widths, and `coverage`, the share of
    labels within, of all test pairs and of the parts that `sections` tells apart; of `generated` intervals, of the
    generated pairs alone. Degradations that the pairs `train` lack are not among the validation pairs either, so that
    less of them may be covered.
    """
    taught = {bench.pairs[row].degradation for row in train}
    held_out = sorted({bench.pairs[row].degradation for row in rows} - taught)
    labels = bench.scores[list(rows)]
    parts = {name or "known": keep for name, keep in sections(bench, rows, held_out).items() if keep.any()}
    result: dict[str, Json] = {"level": level}
    for kind in KINDS:
        known = calibration.errors[kind]
        halves = {name: known.half_width(name, level) for name in (*reward.names, TOTAL)}
        wanted = parts | {"all": np.ones(len(scores), dtype=bool)} if kind == "all" else parts
        result[kind] = {
            "pairs": known.pairs,
            "episodes": known.episodes,
            "half_width": {name: half for name, half in halves.items() if half is not None},
            "coverage": {
                name: {"n": int(keep.sum())} | coverage(known, scores[keep], labels[keep], reward, level)
                for name, keep in wanted.items()
                if kind in ("all", name)
            },
        }
    return result
