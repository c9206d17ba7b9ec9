"""Agreement of two evaluations of the same policies on the same episodes: in a model, and in truth.

Intervals are bootstrapped over policies and episodes at once, because both are samples: of the policies that one might
have evaluated, and of the scenes. All policies have the same episodes, so a draw uses the same episodes for each.
An episode that a policy was not evaluated on is NaN; the policy's mean is over the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from roboalign.metrics.statistics import Interval
from roboalign.types import Json

Floats = NDArray[np.float64]


def mean_maximum_rank_violation(model: ArrayLike, truth: ArrayLike) -> float:
    """The mean maximum rank violation (SIMPLER, arXiv 2405.05941): 0 if the model ranks all policies as the truth does.

    For each policy, the largest difference in truth to a policy that the model ranks on the other side of it; then the
    mean over policies. A tie in one evaluation only is a violation.

    Args:
        model: Success of each policy in the model, (..., P).
        truth: Success in truth, (..., P).

    Returns:
        The mean over the leading axes, in the truth's units.
    """
    return float(rank_violations(np.asarray(model, np.float64), np.asarray(truth, np.float64)).mean())


def rank_violations(model: Floats, truth: Floats) -> Floats:
    """The mean maximum rank violation (...) of each row of evaluations (..., P)."""
    above_model, above_truth = (values[..., :, None] > values[..., None, :] for values in (model, truth))
    distances = np.abs(truth[..., :, None] - truth[..., None, :])
    result: Floats = np.where(above_model != above_truth, distances, 0.0).max(-1).mean(-1)
    return result


def ranking_agreement(model: ArrayLike, truth: ArrayLike, draws: int = 2000, seed: int = 0) -> dict[str, Json]:
    """Pearson's and Spearman's correlation and the mean maximum rank violation of policies' mean success.

    Args:
        model: Success, or any score, of P policies on E episodes in the model, (P, E); NaN where a policy was not
            evaluated.
        truth: Success in truth, (P, E), with NaN in the same places.
        draws: Bootstrap draws of policies and episodes.
        seed: Seed of the bootstrap.

    Returns:
        {pearson, spearman, mmrv}, each {mean, low, high, n}: the value for all policies and episodes, its 95 % interval
        and the number of policies; and `episodes`. A correlation that is not defined is absent.

    Raises:
        ValueError: The tables differ in shape or in what is NaN, are empty or infinite, or a policy has no episode.
    """
    means, drawn = _resample([model, truth], draws, seed)
    values, spread = _agreements(*means), _agreements(*drawn)
    found = {name: _interval(values[name], spread[name], len(means[0][0])) for name in values}
    return _present(found, np.shape(truth)[1])


def agreement_difference(
    before: ArrayLike, after: ArrayLike, truth: ArrayLike, draws: int = 2000, seed: int = 0
) -> dict[str, Json]:
    """The difference of two models in agreement with the truth, as in `ranking_agreement`: after minus before.

    Both models are resampled by the same draws of policies and episodes, so the interval is narrower than those of the
    two agreements suggest. `before`, `after` and `truth` are (P, E).

    Raises:
        ValueError: As `ranking_agreement`.
    """
    means, drawn = _resample([before, after, truth], draws, seed)
    values, spread = ([_agreements(table, tables[2]) for table in tables[:2]] for tables in (means, drawn))
    found = {
        name: _interval(values[1][name] - values[0][name], spread[1][name] - spread[0][name], len(means[0][0]))
        for name in values[0]
    }
    return _present(found, np.shape(truth)[1])


def _resample(tables: Sequence[ArrayLike], draws: int, seed: int) -> tuple[list[Floats], list[Floats]]:
    """The mean of each policy in several tables (P, E), the last of them the truth: over all episodes, each (1, P), and
    over bootstrap draws of policies and episodes, the same ones for all tables, each (N, P), N at most `draws`."""
    *models, truth = (np.asarray(table, np.float64) for table in tables)
    for scores in models:
        if scores.ndim != 2 or scores.shape != truth.shape or scores.size == 0:
            raise ValueError(f"model and truth must be tables of one shape; they are {scores.shape} and {truth.shape}")
    evaluated = ~np.isnan(truth)
    if np.isinf(truth).any() or not all(np.array_equal(evaluated, np.isfinite(scores)) for scores in models):
        raise ValueError("model and truth must be finite, or both NaN where a policy was not evaluated")
    if not evaluated.any(1).all():
        raise ValueError("a policy has no episode in model and truth; leave it out")
    policies, episodes = truth.shape
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(episodes, np.full(episodes, 1 / episodes), size=draws)
    rows = generator.integers(policies, size=(draws, policies))
    counts = np.take_along_axis(weights @ evaluated.T, rows, 1)
    possible = (counts > 0).all(1)  # a draw may miss all episodes of a policy
    means, drawn = [], []
    for table in (*models, truth):
        means.append(np.nanmean(table, 1)[None])
        sums = np.take_along_axis(weights @ np.where(evaluated, table, 0).T, rows, 1)
        drawn.append(sums[possible] / counts[possible])
    return means, drawn


def _agreements(model: Floats, truth: Floats) -> dict[str, Floats]:
    """Each statistic (N,) of the rows of two tables (N, P); NaN where it is not defined."""
    return {
        "pearson": _correlations(model, truth),
        "spearman": _correlations(*(stats.rankdata(table, axis=1) for table in (model, truth))),
        "mmrv": rank_violations(model, truth),
    }


def _interval(value: Floats, spread: Floats, policies: int) -> Interval | None:
    """A value (1,) with its 95 % interval over draws (N,); None if it is not defined."""
    defined = spread[np.isfinite(spread)]
    if not np.isfinite(value[0]) or not len(defined):
        return None
    low, high = np.quantile(defined, (0.025, 0.975))
    return Interval(float(value[0]), float(low), float(high), policies)


def _present(found: Mapping[str, Interval | None], episodes: int) -> dict[str, Json]:
    """The number of episodes and the intervals that are not None, as JSON."""
    return {"episodes": episodes, **{name: asdict(each) for name, each in found.items() if each is not None}}


def random_agreement(truth: ArrayLike, draws: int = 2000, seed: int = 0) -> dict[str, Json]:
    """The agreement of judges that toss a coin for each episode, as in `ranking_agreement`: mean and 95 % range over
    `draws` of them. `truth` is (P, E), NaN where a policy was not evaluated."""
    table = np.asarray(truth, np.float64)
    policies, episodes = table.shape
    counts = (~np.isnan(table)).sum(1)
    rates = np.random.default_rng(seed).binomial(counts, 0.5, size=(draws, policies)) / counts
    means = np.broadcast_to(np.nanmean(table, 1), rates.shape)
    spread = _agreements(rates, means)
    expected = {name: np.atleast_1d(np.nanmean(each)) for name, each in spread.items() if np.isfinite(each).any()}
    return _present({name: _interval(expected[name], spread[name], policies) for name in expected}, episodes)


def _correlations(left: Floats, right: Floats) -> Floats:
    """Pearson's correlation (N,) of the rows of two tables (N, P); NaN if a row is constant."""
    a, b = (table - table.mean(1, keepdims=True) for table in (left, right))
    squares = (a**2).sum(1) * (b**2).sum(1)
    result: Floats = np.divide((a * b).sum(1), np.sqrt(squares), out=np.full(len(a), np.nan), where=squares > 1e-18)
    return result


def masked_rate(values: ArrayLike, mask: ArrayLike, draws: int = 2000, seed: int = 0) -> Interval | None:
    """The mean of some entries of a table, with its bootstrap interval over episodes (columns).

    Sequences of several policies from one scene are not independent, so whole columns are drawn.

    Args:
        values: (P, E).
        mask: (P, E), which entries count.
        draws: Bootstrap draws.
        seed: Seed of the bootstrap.

    Returns:
        The mean and its interval; `n` is the number of entries. None if no entry counts.
    """
    counted = np.asarray(mask, bool)
    table = np.where(counted, np.asarray(values, np.float64), 0.0)
    n = int(counted.sum())
    if n == 0:
        return None
    sums, counts = table.sum(0), counted.sum(0)
    episodes = table.shape[1]
    weights = np.random.default_rng(seed).multinomial(episodes, np.full(episodes, 1 / episodes), size=draws)
    totals = weights @ counts
    means = (weights @ sums)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(table.sum() / n), float(low), float(high), n)
