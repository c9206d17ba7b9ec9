"""Statistics of the evaluation: bootstrap intervals, paired tests, agreement. Uses numpy and scipy only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

CHUNK = 4_000_000
"""Maximum number of resampled values in memory at once."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval over `n` episodes."""

    mean: float
    low: float
    high: float
    n: int

    def json(self) -> dict[str, float | int]:
        """The interval as in metrics files: {mean, low, high, n}."""
        return asdict(self)


def _vector(values: ArrayLike, name: str) -> Floats:
    """Convert `values` to a vector. Raises ValueError, with `name`, if it is empty or not finite."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(f"{name} must be a non-empty list of numbers; its shape is {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} has NaN or infinity; leave out values that were not measured")
    return vector


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    """Convert both to vectors. Raises ValueError if their lengths differ."""
    left, right = _vector(a, "the first sample"), _vector(b, "the second sample")
    if left.size != right.size:
        raise ValueError(f"paired samples differ in length: {left.size} and {right.size}")
    return left, right


def _resample_means(vectors: Sequence[Floats], draws: int, seed: int) -> list[Floats]:
    """Means (draws,) of each vector (n,) over the same `draws` resamplings of its n values."""
    generator, n = np.random.default_rng(seed), vectors[0].size
    means: list[list[Floats]] = [[] for _ in vectors]
    rows = max(1, CHUNK // n)
    for start in range(0, draws, rows):
        indices = generator.integers(n, size=(min(rows, draws - start), n))
        for vector, parts in zip(vectors, means, strict=True):
            parts.append(vector[indices].mean(axis=1))
    return [np.concatenate(parts) for parts in means]


def _percentiles(draws: Floats) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def bootstrap(values: ArrayLike, draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean of `values` (n,), one for each episode, with its 95 % percentile bootstrap interval over episodes."""
    vector = _vector(values, "the sample")
    (means,) = _resample_means([vector], draws, seed)
    return Interval(float(vector.mean()), *_percentiles(means), vector.size)


def wilson(values: ArrayLike) -> Interval:
    """The mean of rates (n,) in [0, 1], one for each episode, with Wilson's 95 % interval for n trials."""
    vector = _vector(values, "the sample")
    n, rate, z = vector.size, float(vector.mean()), 1.959964
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Interval(rate, max(0.0, float(centre - half)), min(1.0, float(centre + half)), n)


def ratio(a: ArrayLike, b: ArrayLike, draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean of `a` (n,) over the mean of `b` (n,), with its bootstrap interval over episodes.

    It is the ratio of the means, because the mean of ratios would be dominated by episodes with a small denominator.
    Raises ValueError if a value of `b` is not above 0.
    """
    numerator, denominator = _pair(a, b)
    if (denominator <= 0).any():
        raise ValueError("the second sample of a ratio must be above 0")
    numerators, denominators = _resample_means([numerator, denominator], draws, seed)
    mean = float(numerator.mean() / denominator.mean())
    return Interval(mean, *_percentiles(numerators / denominators), numerator.size)


def paired_difference(a: ArrayLike, b: ArrayLike, draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean of `a` - `b` with its bootstrap interval; item i of both is the same episode with the same seed."""
    left, right = _pair(a, b)
    return bootstrap(left - right, draws, seed)


def hierarchical(values: Sequence[Sequence[float]], draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean of values (R, N) of R runs on the same N episodes, with its 95 % interval by hierarchical bootstrap.

    Each draw resamples runs and episodes; `n` is the number of episodes. Raises ValueError if the values are not a
    non-empty finite table.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"values must be a non-empty table of finite numbers; its shape is {table.shape}")
    generator, (runs, n) = np.random.default_rng(seed), table.shape
    means = np.empty(draws)
    for draw in range(draws):
        rows = generator.integers(runs, size=runs)
        # All runs have the same episodes, so a draw uses the same episodes in each run.
        means[draw] = table[np.ix_(rows, generator.integers(n, size=n))].mean()
    return Interval(float(table.mean()), *_percentiles(means), n)


def wilcoxon(a: ArrayLike, b: ArrayLike) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test on pairs; 1 if all pairs are equal."""
    left, right = _pair(a, b)
    return 1.0 if np.array_equal(left, right) else float(stats.wilcoxon(left, right).pvalue)


def holm(pvalues: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method, in the order of `pvalues`."""
    if not pvalues:
        return []
    vector = _vector(pvalues, "pvalues")
    order = np.argsort(vector, kind="stable")
    factors = np.arange(vector.size, 0, -1)
    adjusted = np.empty_like(vector)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(vector[order] * factors))
    return [float(value) for value in adjusted]


def _constant(*vectors: Floats) -> bool:
    """Whether any vector is constant, so that its rank correlation is undefined."""
    return any(np.ptp(vector) == 0 for vector in vectors)


def pearson(a: ArrayLike, b: ArrayLike) -> float | None:
    """Pearson's correlation; None if a sample is constant; the metric's key is then left out."""
    left, right = _pair(a, b)
    return None if _constant(left, right) else float(stats.pearsonr(left, right).statistic)


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation; None if a sample is constant; the metric's key is then left out."""
    left, right = _pair(a, b)
    return None if _constant(left, right) else float(stats.spearmanr(left, right).statistic)


def kendall(a: ArrayLike, b: ArrayLike) -> float | None:
    """Kendall's tau-b; None if a sample is constant; the metric's key is then left out."""
    left, right = _pair(a, b)
    return None if _constant(left, right) else float(stats.kendalltau(left, right).statistic)


def quadratic_weighted_kappa(a: ArrayLike, b: ArrayLike) -> float | None:
    """Cohen's kappa with quadratic weights; None if both raters always give the same constant.

    1 minus the mean squared disagreement over that of independent raters with the same marginals. This form does not
    need a list of grades; for real-valued grades it is the concordance correlation coefficient.
    """
    left, right = _pair(a, b)
    chance = left.var() + right.var() + (left.mean() - right.mean()) ** 2
    return None if chance == 0 else float(1 - np.mean((left - right) ** 2) / chance)


def pair_accuracy(scores: ArrayLike, gold: ArrayLike, groups: ArrayLike | None = None) -> float | None:
    """The fraction of pairs within groups that `scores` orders as `gold` does; tied scores count one half.

    Args:
        scores: (N,).
        gold: (N,); pairs with equal gold do not count.
        groups: Group of each item, (N,); None if all items are in one group.

    Returns:
        None if no pair counts.
    """
    predicted, truth = _pair(scores, gold)
    names = np.zeros(predicted.size, dtype=np.int64) if groups is None else np.asarray(groups)
    if names.shape != predicted.shape:
        raise ValueError(f"groups has shape {names.shape}, but scores has {predicted.shape}")
    correct = pairs = 0.0
    for name in np.unique(names):
        rows = names == name
        upper = np.triu_indices(int(rows.sum()), 1)
        true_order = np.sign(np.subtract.outer(truth[rows], truth[rows])[upper])
        order = np.sign(np.subtract.outer(predicted[rows], predicted[rows])[upper])
        counted = true_order != 0
        pairs += counted.sum()
        correct += (0.5 + 0.5 * true_order[counted] * order[counted]).sum()
    return None if pairs == 0 else float(correct / pairs)
