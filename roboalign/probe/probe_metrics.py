"""Errors of predicted states with 95 % bootstrap intervals over episodes."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from roboalign.metrics.statistics import bootstrap
from roboalign.types import STATE_NAMES, Float32, Json

Floats = NDArray[np.float64]

POINTS = ("gripper", "object", "goal")
FLAGS = ("contact", "success")


def state_errors(predicted: Float32, truth: Float32) -> dict[str, float]:
    """Mean absolute errors of one clip's states (T, 14): of points in cm, of the opening (in [0, 1]), of the force in N
    and of the penetration in mm."""
    result = {}
    for number, name in enumerate(POINTS):
        columns = slice(3 * number, 3 * number + 3)
        result[f"{name}_cm"] = 100 * float(np.linalg.norm(predicted[:, columns] - truth[:, columns], axis=1).mean())
    for name, unit, scale in (("opening", "", 1.0), ("force", "_newtons", 1.0), ("penetration", "_mm", 1000.0)):
        column = STATE_NAMES.index(name)
        result[name + unit] = scale * float(np.abs(predicted[:, column] - truth[:, column]).mean())
    return result


def auc(scores: Floats, labels: NDArray[np.bool_], weights: Floats) -> Floats:
    """Area under the ROC curve, (R,), for each row of item weights (R, N); ties count one half.

    NaN for rows in which all positives or all negatives have weight 0.

    Args:
        scores: (N,).
        labels: (N,).
        weights: (R, N); a row of ones for all items, and rows of counts for bootstrap draws.
    """
    values, ranks = np.unique(scores, return_inverse=True)
    positive = np.zeros((len(weights), len(values)))
    negative = np.zeros_like(positive)
    for row, weight in enumerate(weights):
        positive[row] = np.bincount(ranks, weight * labels, len(values))
        negative[row] = np.bincount(ranks, weight * ~labels, len(values))
    lower = negative.cumsum(1) - negative / 2
    pairs = positive.sum(1) * negative.sum(1)
    return np.where(pairs > 0, (positive * lower).sum(1) / np.maximum(pairs, 1e-12), np.nan)


def balanced_accuracy(scores: Floats, labels: NDArray[np.bool_], weights: Floats) -> Floats:
    """Mean of sensitivity and specificity at a threshold of 0.5, (R,); arguments as in `auc`."""
    correct = (scores > 0.5) == labels
    rates = []
    for flag in (labels, ~labels):
        total = (weights * flag).sum(1)
        rates.append(np.where(total > 0, (weights * (flag & correct)).sum(1) / np.maximum(total, 1e-12), np.nan))
    return np.asarray(np.mean(rates, axis=0))


def flag_metrics(
    predicted: Sequence[Float32], truth: Sequence[Float32], episodes: Sequence[str], draws: int, seed: int
) -> dict[str, Json]:
    """AUC and balanced accuracy of contact and success over all frames, as {mean, low, high, n}.

    Intervals are bootstrapped over episodes, which `n` counts. A flag that is true in all frames or in none is left
    out.

    Args:
        predicted: Predicted states (T, 14) of each clip.
        truth: True states (T, 14) of each clip.
        episodes: The episode of each clip.
        draws: Bootstrap draws.
        seed: Seed of the bootstrap.
    """
    names, episode_of_clip = np.unique(np.array(episodes), return_inverse=True)
    episode_of_frame = np.repeat(episode_of_clip, [len(states) for states in predicted])
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    weights = np.concatenate([np.ones((1, len(names))), counts])[:, episode_of_frame]
    result: dict[str, Json] = {}
    for name in FLAGS:
        column = STATE_NAMES.index(name)
        scores = np.concatenate([states[:, column] for states in predicted]).astype(np.float64)
        labels = np.concatenate([states[:, column] for states in truth]) > 0.5
        if labels.all() or not labels.any():
            continue
        for measure, function in (("auc", auc), ("balanced_accuracy", balanced_accuracy)):
            values = function(scores, labels, weights)
            low, high = np.nanquantile(values[1:], (0.025, 0.975))
            result[f"{name}_{measure}"] = {
                "mean": float(values[0]),
                "low": float(low),
                "high": float(high),
                "n": len(names),
            }
    return result


def mean_over_episodes(
    values: Sequence[Mapping[str, float]], episodes: Sequence[str], draws: int, seed: int
) -> dict[str, Json]:
    """Means {mean, low, high, n} of named values of clips; the clips of each episode are averaged first.

    Args:
        values: Named values of each clip.
        episodes: The episode of each clip.
        draws: Bootstrap draws.
        seed: Seed of the bootstrap.
    """
    result: dict[str, Json] = {}
    for name in values[0]:
        groups: dict[str, list[float]] = {}
        for episode, value in zip(episodes, values, strict=True):
            groups.setdefault(episode, []).append(value[name])
        result[name] = bootstrap([float(np.mean(group)) for group in groups.values()], draws, seed).json()
    return result
