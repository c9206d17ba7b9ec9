"""The statistics that a LeRobotDataset carries: of each feature over an episode, and over all episodes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roboalign.types import UInt8

Statistics = dict[str, list[Any]]
"""By name, as `layout.STATISTICS` lists them; `count` is the number of frames."""

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def of_values(values: NDArray[Any]) -> Statistics:
    """Over the rows of (T,) or (T, D), each dimension for itself."""
    table = values.reshape(len(values), -1).astype(np.float64)
    result = {
        "min": table.min(0),
        "max": table.max(0),
        "mean": table.mean(0),
        "std": table.std(0),
    } | dict(zip(QUANTILES, np.quantile(table, list(QUANTILES.values()), axis=0), strict=True))
    return {name: value.tolist() for name, value in result.items()} | {"count": [len(table)]}


def of_frames(frames: UInt8) -> Statistics:
    """Over all pixels of (T, H, W, 3), each channel for itself, in [0, 1] and shaped (3, 1, 1)."""
    counts = np.sum([Image.fromarray(frame).histogram() for frame in frames], axis=0).reshape(3, 256)
    total, levels = counts.sum(1), np.arange(256) / 255
    mean = counts @ levels / total
    # A channel of one level has no spread; its square root must not see -1e-17.
    deviation = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    found = [np.flatnonzero(row) for row in counts]
    below = np.cumsum(counts, axis=1)
    result = {
        "min": np.array([levels[row[0]] for row in found]),
        "max": np.array([levels[row[-1]] for row in found]),
        "mean": mean,
        "std": deviation,
    }
    for name, share in QUANTILES.items():
        reached = [int(np.searchsorted(row, share * row[-1])) for row in below]
        result[name] = levels[reached]
    return {name: value.reshape(3, 1, 1).tolist() for name, value in result.items()} | {"count": [len(frames)]}


class Aggregate:
    """Statistics over episodes from those of each: exact, but for the quantiles, which are the mean of the episodes'
    own, weighted by frames, as LeRobot has them."""

    def __init__(self) -> None:
        self._features: dict[str, dict[str, NDArray[np.float64]]] = {}
        self._counts: dict[str, int] = {}

    def add(self, features: Mapping[str, Statistics]) -> None:
        """Count an episode in."""
        for name, given in features.items():
            more = int(given["count"][0])
            values = {key: np.asarray(value, np.float64) for key, value in given.items() if key != "count"}
            values["variance"] = values.pop("std") ** 2
            if name not in self._features:
                self._features[name], self._counts[name] = values, more
                continue
            mine, share = self._features[name], more / (self._counts[name] + more)
            apart = values["mean"] - mine["mean"]
            mine["min"], mine["max"] = np.minimum(mine["min"], values["min"]), np.maximum(mine["max"], values["max"])
            for key in ("mean", "variance", *QUANTILES):
                mine[key] = mine[key] + share * (values[key] - mine[key])
            mine["variance"] = mine["variance"] + share * (1 - share) * apart**2
            self._counts[name] += more

    def result(self) -> dict[str, Statistics]:
        """As meta/stats.json has them."""
        return {
            name: {key: value.tolist() for key, value in values.items() if key != "variance"}
            | {"std": np.sqrt(values["variance"]).tolist(), "count": [self._counts[name]]}
            for name, values in self._features.items()
        }
