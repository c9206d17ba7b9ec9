"""How well a reward ranks the rollouts of one prompt: what a group-normalised advantage and best-of-N see.

Everything is measured within groups; what a reward says of different prompts does not count. Intervals resample groups.
"""

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roboalign.metrics.statistics import bootstrap, pair_accuracy
from roboalign.types import Json

Floats = NDArray[np.float64]

BEST_OF = (2, 4, 8, 16)
"""Numbers of candidates that best-of-N is measured with."""


def within_group_correlation(
    scores: Sequence[ArrayLike], gold: Sequence[ArrayLike], draws: int = 2000, seed: int = 0
) -> dict[str, float] | None:
    """Pearson's correlation of scores and gold, each less its group's mean, pooled over groups: {mean, low, high, n}.

    None if either is constant within every group. `n` counts groups, which are what is resampled.
    """
    sums = np.array(
        [_moments(np.asarray(s, np.float64), np.asarray(g, np.float64)) for s, g in zip(scores, gold, strict=True)]
    )
    whole = sums.sum(0)
    if whole[0] <= 0 or whole[1] <= 0:
        return None
    chosen = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    drawn = sums[chosen].sum(1)
    spread = np.sqrt(drawn[:, 0] * drawn[:, 1])
    values = drawn[spread > 0, 2] / spread[spread > 0]
    low, high = np.quantile(values, (0.025, 0.975)) if len(values) else (np.nan, np.nan)
    return {
        "mean": float(whole[2] / np.sqrt(whole[0] * whole[1])),
        "low": float(low),
        "high": float(high),
        "n": len(sums),
    }


def _moments(scores: Floats, gold: Floats) -> tuple[float, float, float]:
    """Sums of squares of both, and of their products, less their means."""
    a, b = scores - scores.mean(), gold - gold.mean()
    return float(a @ a), float(b @ b), float(a @ b)


def best_of_n(scores: ArrayLike, gold: ArrayLike, n: int) -> float:
    """The expected gold of the candidate with the highest score among `n` drawn without replacement from a group.

    Exact, over all subsets. Tied candidates are equally likely to be taken. Raises ValueError if the group is smaller.
    """
    marks, values = np.asarray(scores, np.float64), np.asarray(gold, np.float64)
    size = len(marks)
    if size < n:
        raise ValueError(f"best of {n} needs at least {n} candidates, the group has {size}")
    levels, places = np.unique(-marks, return_inverse=True)
    expected, above = 0.0, 0
    for level in range(len(levels)):
        members = places == level
        count = int(members.sum())
        # A tied level wins if no candidate above it is drawn and at least one of its own is.
        chance = (comb(size - above, n) - comb(size - above - count, n)) / comb(size, n)
        expected += chance * float(values[members].mean())
        above += count
    return expected


def group_metrics(
    scores: Sequence[Floats], gold: Sequence[Floats], dimensions: Sequence[str], draws: int = 2000, seed: int = 0
) -> dict[str, Json]:
    """The agreement of a reward with gold within groups, both (G, D) a group: of the total, and by dimension.

    {correlation, by_dimension, pair_accuracy, best_of: {N: the gold gained over the mean of the group, with interval}}.
    """
    totals, golds = [s.sum(1) for s in scores], [g.sum(1) for g in gold]
    result: dict[str, Json] = {"groups": len(scores), "size": len(scores[0])}
    found = within_group_correlation(totals, golds, draws, seed)
    if found is not None:
        result["correlation"] = found
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
