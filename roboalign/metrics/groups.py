"""Agreement of a reward with gold scores within groups of rollouts of one prompt.

A group-normalised advantage and best-of-N use only differences within a group, so differences between prompts do not
count. Intervals are bootstrapped over groups.
"""

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roboalign.metrics.statistics import bootstrap, pair_accuracy
from roboalign.types import Json

Floats = NDArray[np.float64]

BEST_OF = (2, 4, 8, 16)
"""Values of N for which best-of-N is measured."""


def within_group_correlation(
    scores: Sequence[ArrayLike], gold: Sequence[ArrayLike], draws: int = 2000, seed: int = 0
) -> dict[str, float] | None:
    """Pearson correlation of scores and gold after subtracting each group's mean, pooled over groups.

    Args:
        scores: Scores (G,) of each group.
        gold: Gold scores (G,) of each group.
        draws: Bootstrap draws of groups.
        seed: Seed of the bootstrap.

    Returns:
        {mean, low, high, n}, n being the number of groups; None if scores or gold are constant within all groups.
    """
    # Sums over groups are enough for the correlation, so a bootstrap draw only adds the sums of its groups.
    sums = np.array(
        [_moments(np.asarray(s, np.float64), np.asarray(g, np.float64)) for s, g in zip(scores, gold, strict=True)]
    )
    total = sums.sum(0)
    if total[0] <= 0 or total[1] <= 0:
        return None
    indices = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    resampled = sums[indices].sum(1)
    scale = np.sqrt(resampled[:, 0] * resampled[:, 1])
    values = resampled[scale > 0, 2] / scale[scale > 0]
    low, high = np.quantile(values, (0.025, 0.975)) if len(values) else (np.nan, np.nan)
    return {
        "mean": float(total[2] / np.sqrt(total[0] * total[1])),
        "low": float(low),
        "high": float(high),
        "n": len(sums),
    }


def _moments(scores: Floats, gold: Floats) -> tuple[float, float, float]:
    """Sums of squares of centred scores, of centred gold, and of their products, for one group."""
    a, b = scores - scores.mean(), gold - gold.mean()
    return float(a @ a), float(b @ b), float(a @ b)


def best_of_n(scores: ArrayLike, gold: ArrayLike, n: int) -> float:
    """The expected gold score of the candidate with the highest score among `n` drawn without replacement.

    Exact, over all subsets of the group; tied candidates are equally likely to be chosen. Raises ValueError if the
    group is smaller than `n`.
    """
    ranked, values = np.asarray(scores, np.float64), np.asarray(gold, np.float64)
    size = len(ranked)
    if size < n:
        raise ValueError(f"best of {n} needs at least {n} candidates, but the group has {size}")
    levels, level_of = np.unique(-ranked, return_inverse=True)
    expected, higher = 0.0, 0
    for level in range(len(levels)):
        tied = level_of == level
        count = int(tied.sum())
        # This score is the best if no candidate with a higher one is drawn, and at least one with this score is.
        probability = (comb(size - higher, n) - comb(size - higher - count, n)) / comb(size, n)
        expected += probability * float(values[tied].mean())
        higher += count
    return expected


def group_metrics(
    scores: Sequence[Floats], gold: Sequence[Floats], dimensions: Sequence[str], draws: int = 2000, seed: int = 0
) -> dict[str, Json]:
    """The agreement of a reward with gold within groups, for the total and by dimension.

    Args:
        scores: Raw scores (G, D) of each group.
        gold: Gold scores (G, D) of each group.
        dimensions: Names (D,).
        draws: Bootstrap draws of groups.
        seed: Seed of the bootstrap.

    Returns:
        {groups, size, correlation, by_dimension, pair_accuracy, best_of: {N: gold gained over the group's mean}}.
        Values that are not defined are absent.
    """
    totals, golds = [s.sum(1) for s in scores], [g.sum(1) for g in gold]
    result: dict[str, Json] = {"groups": len(scores), "size": len(scores[0])}
    correlation = within_group_correlation(totals, golds, draws, seed)
    if correlation is not None:
        result["correlation"] = correlation
    by_dimension = {
        name: within_group_correlation([s[:, k] for s in scores], [g[:, k] for g in gold], draws, seed)
        for k, name in enumerate(dimensions)
    }
    result["by_dimension"] = {name: value for name, value in by_dimension.items() if value is not None}
    names = np.concatenate([np.full(len(total), number) for number, total in enumerate(totals)])
    accuracy = pair_accuracy(np.concatenate(totals), np.concatenate(golds), names)
    if accuracy is not None:
        result["pair_accuracy"] = accuracy
    result["best_of"] = {
        str(n): bootstrap(
            [best_of_n(s, g, n) - float(g.mean()) for s, g in zip(totals, golds, strict=True)], draws, seed
        ).json()
        for n in BEST_OF
        if n <= min(len(total) for total in totals)
    }
    return result
