"""Measuring a scorer against the bench's labels: intervals of its error, and its agreement with them.

Intervals are split conformal prediction on the validation pairs, which the scorer was not trained on. Of its n absolute
errors on them, the one of rank ceil((n + 1) * level) is half of the interval's width. For clips that are drawn as the
validation pairs are, the interval contains the label with a probability of at least `level`, for any scorer and any
distribution of its errors (Vovk et al.). For other clips there is no guarantee, and n pairs of one episode are worth
less than pairs of n episodes.

Scorers err more on rollouts than on recordings, so there are two kinds of intervals: from all validation pairs, and
from the generated ones only, for the rollouts of a world model.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from roboalign.bench.labels import Scores
from roboalign.bench.pairs import Bench, Pair
from roboalign.metrics.statistics import bootstrap, kendall, quadratic_weighted_kappa, spearman
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus
from roboalign.types import Json

LEVEL = 0.9
"""The level that metrics report."""

TOTAL = "total"

Kind = Literal["all", "generated"]
"""The validation pairs from which an interval is computed."""

KINDS: tuple[Kind, ...] = ("all", "generated")


class ScorerErrors(BaseModel):
    """A scorer's errors on validation pairs of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pairs: int
    episodes: int
    """Number of episodes of the pairs."""
    sizes: dict[str, tuple[float, ...]]
    """Absolute errors in ascending order, by dimension and of the total."""

    def half_width(self, name: str, level: float) -> float | None:
        """Half of the width of the interval of a dimension or the total; None if n pairs are too few for the level,
        which is at most n / (n + 1)."""
        rank = math.ceil((self.pairs + 1) * level - 1e-9)
        return self.sizes[name][rank - 1] if 1 <= rank <= self.pairs else None


class Calibration(BaseModel):
    """The clips that a scorer was trained on, and its validation errors: `calibration.json` beside its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: int
    """Height of the training images in pixels."""
    width: int
    """Their width."""
    frames: tuple[int, int]
    """Frames of the shortest and the longest training clip."""
    fps: tuple[float, float]
    """Frames per second of the slowest and the fastest source."""
    errors: dict[Kind, ScorerErrors]

    def usable(self, kind: Kind, level: float) -> Kind:
        """`kind`, or `all` if it has too few pairs for intervals of the level."""
        return kind if self.errors[kind].half_width(TOTAL, level) is not None else "all"


def calibrate(
    bench: Bench,
    corpus: Corpus,
    reward: RewardSpec,
    train: Sequence[int],
    validation: Sequence[int],
    scores: Scores | None,
) -> Calibration:
    """The calibration of a scorer.

    Args:
        bench: The bench.
        corpus: Its recorded episodes.
        reward: The reward that defines the dimensions.
        train: Indices of the pairs that the scorer was trained on.
        validation: Indices of the validation pairs.
        scores: Raw scores (N, D) of the validation pairs; None without any, which allows no intervals.
    """
    lengths = [bench.pairs[row].stop - bench.pairs[row].start for row in train]
    rates = [store.fps for store in corpus.stores]
    height, width = bench.frames(train[0]).shape[1:3]
    values = np.empty((0, len(reward.names))) if scores is None else scores
    generated = np.array([bench.pairs[row].origin == "generated" for row in validation], dtype=bool)
    masks: dict[Kind, NDArray[np.bool_]] = {"all": np.ones(len(validation), dtype=bool), "generated": generated}
    errors: dict[Kind, ScorerErrors] = {}
    for kind, mask in masks.items():
        rows = [row for row, used in zip(validation, mask, strict=True) if used]
        sizes = absolute_errors(values[mask], bench.scores[rows], reward)
        errors[kind] = ScorerErrors(
            pairs=len(rows),
            episodes=len({bench.pairs[row].episode for row in rows}),
            sizes={name: tuple(float(f"{value:.6g}") for value in np.sort(column)) for name, column in sizes.items()},
        )
    return Calibration(
        height=height,
        width=width,
        frames=(min(lengths), max(lengths)),
        fps=(min(rates), max(rates)),
        errors=errors,
    )


def absolute_errors(scores: Scores, labels: Scores, reward: RewardSpec) -> dict[str, Scores]:
    """The absolute errors (N,) of scores (N, D), by dimension and of the total."""
    columns = {name: np.abs(scores[:, k] - labels[:, k]) for k, name in enumerate(reward.names)}
    return columns | {TOTAL: np.abs(scores.sum(1) - labels.sum(1))}


def coverage(
    errors: ScorerErrors, scores: Scores, labels: Scores, reward: RewardSpec, level: float = LEVEL
) -> dict[str, Json]:
    """The share of labels (N, D) within the intervals around raw scores (N, D), by dimension and of the total.

    Dimensions without an interval are left out. Intervals are clipped to the range of the scores, which does not change
    the share.
    """
    result: dict[str, Json] = {}
    for name, sizes in absolute_errors(scores, labels, reward).items():
        half = errors.half_width(name, level)
        if half is not None:
            result[name] = float((sizes <= half + 1e-6).mean())
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
    """The section `interval` of metrics/judge.json and metrics/student.json.

    By the kind of interval: its numbers of pairs and episodes, half of its widths, and the `coverage` of all test pairs
    and of each of the `sections`; of `generated` intervals, the coverage of generated pairs only. Degradations that
    training lacks are also missing from the validation pairs, so their coverage may be lower.

    Args:
        calibration: Of the scorer.
        scores: Its raw scores (N, D) of the test pairs.
        bench: The bench.
        rows: Indices of the test pairs.
        train: Indices of the training pairs.
        reward: The reward that defines the dimensions.
        level: Of the intervals.
    """
    trained = {bench.pairs[row].degradation for row in train}
    held_out = sorted({bench.pairs[row].degradation for row in rows} - trained)
    labels = bench.scores[list(rows)]
    masks = {name or "known": mask for name, mask in sections(bench, rows, held_out).items() if mask.any()}
    result: dict[str, Json] = {"level": level}
    for kind in KINDS:
        errors = calibration.errors[kind]
        halves = {name: errors.half_width(name, level) for name in (*reward.names, TOTAL)}
        parts = masks | {"all": np.ones(len(scores), dtype=bool)} if kind == "all" else masks
        result[kind] = {
            "pairs": errors.pairs,
            "episodes": errors.episodes,
            "half_width": {name: half for name, half in halves.items() if half is not None},
            "coverage": {
                name: {"n": int(mask.sum())} | coverage(errors, scores[mask], labels[mask], reward, level)
                for name, mask in parts.items()
                if kind in ("all", name)
            },
        }
    return result


def agreement(scores: Scores, labels: Scores, baseline: Scores, reward: RewardSpec) -> dict[str, Json]:
    """By dimension and of the total: MAE with its interval over pairs, rank correlations and weighted kappa.

    Correlations are left out if a side is constant.

    Args:
        scores: (N, D).
        labels: (N, D).
        baseline: (D,), constant scores whose MAE is reported beside that of `scores`.
        reward: The reward that defines the dimensions.
    """
    result: dict[str, Json] = {}
    columns = [*((name, scores[:, k], labels[:, k], baseline[k]) for k, name in enumerate(reward.names))]
    columns.append((TOTAL, scores.sum(1), labels.sum(1), baseline.sum()))
    for name, values, truth, constant in columns:
        error = bootstrap(np.abs(values - truth))
        entry: dict[str, Json] = {
            "mae": error.mean,
            "mae_low": error.low,
            "mae_high": error.high,
            "constant_mae": float(np.abs(constant - truth).mean()),
        }
        measured = {"spearman": spearman(values, truth)}
        if name == TOTAL:
            measured["kendall"] = kendall(values, truth)
        else:
            measured["qwk"] = quadratic_weighted_kappa(values, truth)
        result[name] = entry | {key: value for key, value in measured.items() if value is not None}
    return {"n": len(scores), **result}


def sections(bench: Bench, rows: Sequence[int], held_out: Sequence[str]) -> Mapping[str, NDArray[np.bool_]]:
    """The pairs `rows` as disjoint masks (N,) by name.

    `` holds recorded and degraded clips like those of training; `held_out_sources`, `held_out_degradations` and
    `generated` (rollouts, labelled by a probe or a rule) the others.
    """
    trained = {pair.source for pair in bench.pairs if pair.split == "train"}

    def section(pair: Pair) -> str:
        if trained and pair.source not in trained:
            return "held_out_sources"
        if pair.origin in ("generated", "group"):
            return "generated"
        return "held_out_degradations" if pair.degradation in held_out else ""

    names = [section(bench.pairs[row]) for row in rows]
    every = ("", "held_out_sources", "held_out_degradations", "generated")
    return {name: np.array([each == name for each in names], dtype=bool) for name in every}
