"""Statistics of the evaluation: bootstrap intervals, paired tests, agreement. numpy and scipy only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

CHUNK = 4_000_000
"""Most resampled values held in memory at once."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval over `n` episodes."""

    mean: float
    low: float
    high: float
    n: int

    def json(self) -> dict[str, float | int]:
        """The form in metrics files: {mean, low, high, n}."""
        return asdict(self)


def _vector(values: ArrayLike, name: str) -> Floats:
    """`values` as one finite, non-empty vector. Raises ValueError otherwise."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(f"{name} must be one non-empty list of numbers; its shape is {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} holds NaN or infinity; leave out what was not measured")
    return vector


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    """Two vectors of the same length. Raises ValueError otherwise."""
    left, right = _vector(a, "the first sample"), _vector(b, "the second sample")
    if left.size != right.size:
        raise ValueError(f"paired samples differ in length: {left.size} and {right.size}")
    return left, right


def _resample_means(vectors: Sequence[Floats], draws: int, seed: int) -> list[Floats]:
    """The means of each vector over the same `draws` resamplings of episodes, (draws,) each."""
    generator, n = np.random.default_rng(seed), vectors[0].size
    means: list[list[Floats]] = [[] for _ in vectors]
    rows = max(1, CHUNK // n)
    for start in range(0, draws, rows):
        chosen = generator.integers(n, size=(min(rows, draws - start), n))
        for vector, found in zip(vectors, means, strict=True):
            found.append(vector[chosen].mean(axis=1))
    return [np.concatenate(found) for found in means]


def _percentiles(draws: Floats) -> tuple[float, float]:
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def bootstrap(values: ArrayLike, draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean of `values`, one per episode, with its 95 % percentile interval over `draws` resamplings of episodes."""
    vector = _vector(values, "the sample")
    (means,) = _resample_means([vector], draws, seed)
    return Interval(float(vector.mean()), *_percentiles(means), vector.size)


def wilson(values: ArrayLike) -> Interval:
    """The mean of shares from 0 to 1, one per episode, with Wilson's 95 % interval of a rate over so many episodes."""
    vector = _vector(values, "the sample")
    n, rate, z = vector.size, float(vector.mean()), 1.959964
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Interval(rate, max(0.0, float(centre - half)), min(1.0, float(centre + half)), n)


def ratio(a: ArrayLike, b: ArrayLike, draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean of a over the mean of b, with its interval over resamplings of episodes; b is above 0 everywhere.

    A mean of the episodes' own ratios would hang on those with hardly anything below the line.
    """
    above, below = _pair(a, b)
    if (below <= 0).any():
        raise ValueError("the second sample of a ratio holds a value that is not above 0")
    tops, bottoms = _resample_means([above, below], draws, seed)
    return Interval(float(above.mean() / below.mean()), *_percentiles(tops / bottoms), above.size)


def paired_difference(a: ArrayLike, b: ArrayLike, draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean of a - b with its interval; item i of both is the same episode under the same seed."""
    left, right = _pair(a, b)
    return bootstrap(left - right, draws, seed)


def hierarchical(values: Sequence[Sequence[float]], draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean of values (R, N), R runs of the same N episodes, with its 95 % interval over resamplings of runs and, in
    each, of episodes; `n` counts episodes."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"values must be a non-empty table of finite numbers; its shape is {table.shape}")
    generator, (runs, n) = np.random.default_rng(seed), table.shape
    means = np.empty(draws)
    for draw in range(draws):
        chosen = generator.integers(runs, size=runs)
        # Episodes are the same in all runs, so a draw takes the same ones in each.
        means[draw] = table[np.ix_(chosen, generator.integers(n, size=n))].mean()
    return Interval(float(table.mean()), *_percentiles(means), n)


def wilcoxon(a: ArrayLike, b: ArrayLike) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test on pairs; 1 where all pairs are equal."""
    left, right = _pair(a, b)
    return 1.0 if np.array_equal(left, right) else float(stats.wilcoxon(left, right).pvalue)


def holm(pvalues: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method, in the order given."""
    if not pvalues:
        return []
    vector = _vector(pvalues, "pvalues")
    order = np.argsort(vector, kind="stable")
    factors = np.arange(vector.size, 0, -1)
    adjusted = np.empty_like(vector)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(vector[order] * factors))
    return [float(value) for value in adjusted]


def _constant(*vectors: Floats) -> bool:
    """Whether any vector has no two different values: its rank correlation is undefined."""
    return any(np.ptp(vector) == 0 for vector in vectors)


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation; None where a sample is constant: leave the metric's key out."""
    left, right = _pair(a, b)
    return None if _constant(left, right) else float(stats.spearmanr(left, right).statistic)


def kendall(a: ArrayLike, b: ArrayLike) -> float | None:
    """Kendall's tau-b; None where a sample is constant: leave the metric's key out."""
    left, right = _pair(a, b)
    return None if _constant(left, right) else float(stats.kendalltau(left, right).statistic)


def quadratic_weighted_kappa(a: ArrayLike, b: ArrayLike) -> float | None:
    """Cohen's kappa with quadratic weights; None where both raters give one and the same constant.

    One minus the mean squared disagreement over what independent raters with the same marginals would have. In this
    form it needs no list of grades, and on grades that are not whole numbers it is the concordance coefficient.
    """
    left, right = _pair(a, b)
    chance = left.var() + right.var() + (left.mean() - right.mean()) ** 2
    return None if chance == 0 else float(1 - np.mean((left - right) ** 2) / chance)


def pair_accuracy(scores: ArrayLike, gold: ArrayLike, groups: ArrayLike | None = None) -> float | None:
    """The share of pairs, within groups, that `scores` orders as `gold` does; tied scores count one half.

    This is what a group-normalised advantage sees of a reward. Pairs that gold ties are not counted; None where no
    pair is left. `groups` names each item's group; without it all items are one group.
    """
    left, right = _pair(scores, gold)
    names = np.zeros(left.size, dtype=np.int64) if groups is None else np.asarray(groups)
    if names.shape != left.shape:
        raise ValueError(f"groups has shape {names.shape}, the scores {left.shape}")
    right_pairs = pairs = 0.0
    for name in np.unique(names):
        rows = names == name
        upper = np.triu_indices(int(rows.sum()), 1)
        signs = np.sign(np.subtract.outer(right[rows], right[rows])[upper])
        guess = np.sign(np.subtract.outer(left[rows], left[rows])[upper])
        counted = signs != 0
        pairs += counted.sum()
        right_pairs += (0.5 + 0.5 * signs[counted] * guess[counted]).sum()
    return None if pairs == 0 else float(right_pairs / pairs)
