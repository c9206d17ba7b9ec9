"""Computes the statistics of a LeRobotDataset: of each feature over an episode, and over all episodes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roboalign.types import UInt8

Statistics = dict[str, list[Any]]
"""Statistics by name, as listed in `layout.STATISTICS`; `count` is the number of frames."""

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def value_statistics(values: NDArray[Any]) -> Statistics:
    """Compute statistics over the rows of (T,) or (T, D), for each dimension."""
    table = values.reshape(len(values), -1).astype(np.float64)
    result = {
        "min": table.min(0),
        "max": table.max(0),
        "mean": table.mean(0),
        "std": table.std(0),
    } | dict(zip(QUANTILES, np.quantile(table, list(QUANTILES.values()), axis=0), strict=True))
    return {name: value.tolist() for name, value in result.items()} | {"count": [len(table)]}


def frame_statistics(frames: UInt8) -> Statistics:
    """Compute statistics over all pixels of (T, H, W, 3), for each channel, in [0, 1] with shape (3, 1, 1)."""
    counts = np.sum([Image.fromarray(frame).histogram() for frame in frames], axis=0).reshape(3, 256)
    total, levels = counts.sum(1), np.arange(256) / 255
    mean = counts @ levels / total
    # Rounding can make the variance of a constant channel negative.
    deviation = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    present_levels = [np.flatnonzero(row) for row in counts]
    cumulative = np.cumsum(counts, axis=1)
    result = {
        "min": np.array([levels[row[0]] for row in present_levels]),
        "max": np.array([levels[row[-1]] for row in present_levels]),
        "mean": mean,
        "std": deviation,
    }
    for name, quantile in QUANTILES.items():
        indices = [int(np.searchsorted(row, quantile * row[-1])) for row in cumulative]
        result[name] = levels[indices]
    return {name: value.reshape(3, 1, 1).tolist() for name, value in result.items()} | {"count": [len(frames)]}


class Aggregate:
    """Aggregates the statistics of episodes.

    The result is exact except for the quantiles, which are means of the episodes' quantiles weighted by frames, as in
    LeRobot.
    """

    def __init__(self) -> None:
        self._features: dict[str, dict[str, NDArray[np.float64]]] = {}
        self._counts: dict[str, int] = {}

    def add(self, features: Mapping[str, Statistics]) -> None:
        """Add the statistics of an episode."""
        for name, episode_statistics in features.items():
            count = int(episode_statistics["count"][0])
            values = {key: np.asarray(value, np.float64) for key, value in episode_statistics.items() if key != "count"}
            values["variance"] = values.pop("std") ** 2
            if name not in self._features:
                self._features[name], self._counts[name] = values, count
                continue
            total, weight = self._features[name], count / (self._counts[name] + count)
            difference = values["mean"] - total["mean"]
            total["min"], total["max"] = (
                np.minimum(total["min"], values["min"]),
                np.maximum(total["max"], values["max"]),
            )
            for key in ("mean", "variance", *QUANTILES):
                total[key] = total[key] + weight * (values[key] - total[key])
            total["variance"] = total["variance"] + weight * (1 - weight) * difference**2
            self._counts[name] += count

    def result(self) -> dict[str, Statistics]:
        """Return the aggregated statistics, as in meta/stats.json."""
        return {
            name: {key: value.tolist() for key, value in values.items() if key != "variance"}
            | {"std": np.sqrt(values["variance"]).tolist(), "count": [self._counts[name]]}
            for name, values in self._features.items()
        }
