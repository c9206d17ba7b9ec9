"""Score vectors: raw in each dimension's range, normalised to [0, 1], and summed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.reward.spec import RewardSpec

ABSOLUTE, FAITHFUL = 0, 1
"""Indices: the paper's scores of what a clip shows, and how far that agrees with what its actions led to."""

VARIANTS = {"absolute": ABSOLUTE, "faithful": FAITHFUL}
"""The same by the names that specs use."""

Array = TypeVar("Array", NDArray[Any], Tensor)
"""Scores as numpy or torch: any leading axes, the dimensions in the spec's order as the last."""


class Scorer(Protocol):
    """Anything that scores clips under instructions in all dimensions of a reward: a judge of any kind, the student."""

    reward: RewardSpec

    def sample(self, videos: Tensor, instructions: Sequence[str], actions: Tensor | None = None) -> Tensor:
        """Raw scores (S, B, 2, D) of clips (B, T, 3, H, W), uint8 or in [0, 1], frame 0 recorded.

        S draws of the scorer's distribution (ensemble members, or samples at a temperature); axis 2 is ABSOLUTE,
        FAITHFUL; D are the reward's dimensions in their order. `actions` (B, T - 1, A) in [-1, 1] lead to frames
        1 ... T - 1; NaN in the FAITHFUL scores if the scorer was not given actions and needs them.
        """
        ...


class Judge(Scorer, Protocol):
    """A scorer with a file of its own, which `roboalign.pipeline.judges.load_judge` reads."""

    def save(self, path: Path, provenance: str) -> None:
        """Write a checkpoint whose metadata hold `spec`, `reward` and `provenance`, the hash of what went in."""
        ...


def mean_scores(scorer: Scorer, videos: Tensor, instructions: Sequence[str], actions: Tensor | None = None) -> Tensor:
    """The mean raw scores (B, 2, D) over the draws of a scorer."""
    return scorer.sample(videos, instructions, actions).mean(0)


def _row(values: Sequence[float], like: Array) -> Array:
    """`values` as an array of the kind, type and device of `like`."""
    if isinstance(like, Tensor):
        return torch.tensor(values, dtype=like.dtype, device=like.device)
    return np.asarray(values, dtype=like.dtype)


def normalise(scores: Array, spec: RewardSpec) -> Array:
    """Raw scores as shares of the maximum score."""
    result: Array = scores / _row(spec.max_scores, scores)
    return result


def denormalise(shares: Array, spec: RewardSpec) -> Array:
    """Shares of the maximum score as raw scores."""
    result: Array = shares * _row(spec.max_scores, shares)
    return result


def total(scores: Array, spec: RewardSpec) -> Array:
    """The plain sum over dimensions, as in the paper's tables: 0 to `spec.max_total`. Drops the last axis.

    Raises ValueError where the last axis is not the spec's dimensions.
    """
    if scores.shape[-1] != len(spec.dimensions):
        raise ValueError(
            f"scores have {scores.shape[-1]} dimensions, the reward has {len(spec.dimensions)}: "
            "they come from different specs"
        )
    result: Array = scores.sum(-1)
    return result


def weighted_total(scores: Array, spec: RewardSpec) -> Array:
    """The alignment reward R = sum_k w_k g_k (paper). Drops the last axis."""
    result: Array = (scores * _row(spec.weights, scores)).sum(-1)
    return result
