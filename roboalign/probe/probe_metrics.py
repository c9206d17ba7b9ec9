"""Figures of probed against true states, with 95 % intervals by resampling episodes."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from roboalign.metrics.statistics import bootstrap
from roboalign.types import STATE_NAMES, Float32, Json

Floats = NDArray[np.float64]

POINTS = ("gripper", "object", "goal")
FLAGS = ("contact", "success")


def state_errors(said: Float32, truth: Float32) -> dict[str, float]:
    """Mean errors of one clip's states (T, 14): of the points in centimetres, of the opening as a share, of the force
    in newtons and of the penetration in millimetres."""
    result = {}
    for number, name in enumerate(POINTS):
        columns = slice(3 * number, 3 * number + 3)
        result[f"{name}_cm"] = 100 * float(np.linalg.norm(said[:, columns] - truth[:, columns], axis=1).mean())
    for name, unit, scale in (("opening", "", 1.0), ("force", "_newtons", 1.0), ("penetration", "_mm", 1000.0)):
        column = STATE_NAMES.index(name)
        result[name + unit] = scale * float(np.abs(said[:, column] - truth[:, column]).mean())
    return result


def auc(scores: Floats, labels: NDArray[np.bool_], weights: Floats) -> Floats:
    """The probability (R,) that a positive scores above a negative, ties counting one half, under each row of `weights`
    (R, N) of the items; NaN for a row without positives or without negatives."""
    values, places = np.unique(scores, return_inverse=True)
    positive = np.zeros((len(weights), len(values)))
    negative = np.zeros_like(positive)
    for row, weight in enumerate(weights):
        positive[row] = np.bincount(places, weight * labels, len(values))
        negative[row] = np.bincount(places, weight * ~labels, len(values))
    below = negative.cumsum(1) - negative / 2
    pairs = positive.sum(1) * negative.sum(1)
    return np.where(pairs > 0, (positive * below).sum(1) / np.maximum(pairs, 1e-12), np.nan)


def balanced_accuracy(scores: Floats, labels: NDArray[np.bool_], weights: Floats) -> Floats:
    """The mean (R,) of the shares of positives above one half and of negatives not above it; weighted as in `auc`."""
    right = (scores > 0.5) == labels
    shares = []
    for flag in (labels, ~labels):
        total = (weights * flag).sum(1)
        shares.append(np.where(total > 0, (weights * (flag & right)).sum(1) / np.maximum(total, 1e-12), np.nan))
    return np.asarray(np.mean(shares, axis=0))


def flag_metrics(
    said: Sequence[Float32], truth: Sequence[Float32], episodes: Sequence[str], draws: int, seed: int
) -> dict[str, Json]:
    """AUC and balanced accuracy over all frames, {mean, low, high, n}, for contact and success; a flag that is never or
    always set among the frames has none. `n` counts the episodes, which are what is resampled."""
    names, of_clip = np.unique(np.array(episodes), return_inverse=True)
    of = np.repeat(of_clip, [len(states) for states in said])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    weights = np.concatenate([np.ones((1, len(names))), drawn])[:, of]
    result: dict[str, Json] = {}
    for name in FLAGS:
        column = STATE_NAMES.index(name)
        scores = np.concatenate([states[:, column] for states in said]).astype(np.float64)
        labels = np.concatenate([states[:, column] for states in truth]) > 0.5
        if labels.all() or not labels.any():
            continue
        for measure, rule in (("auc", auc), ("balanced_accuracy", balanced_accuracy)):
            values = rule(scores, labels, weights)
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
    """Means of named values of clips, {mean, low, high, n}, over episodes, each the mean of its clips."""
    result: dict[str, Json] = {}
    for name in values[0]:
        groups: dict[str, list[float]] = {}
        for episode, value in zip(episodes, values, strict=True):
            groups.setdefault(episode, []).append(value[name])
        result[name] = bootstrap([float(np.mean(group)) for group in groups.values()], draws, seed).json()
    return result
