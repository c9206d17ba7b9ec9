"""Score vectors: raw scores in each dimension's range, normalised scores in [0, 1], and totals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.reward.spec import RewardSpec

ABSOLUTE, FAITHFUL = 0, 1
"""Indices of the score variants: the paper's scores of what a clip shows, and its agreement with the true outcome of
its actions."""

VARIANTS = {"absolute": ABSOLUTE, "faithful": FAITHFUL}
"""The index of each variant by its name in specs."""

Array = TypeVar("Array", NDArray[Any], Tensor)
"""Scores (..., D) as numpy or torch; D are the reward's dimensions in the spec's order."""


class Scorer(Protocol):
    """Scores clips under instructions in all dimensions of a reward: judges of any kind, and the student."""

    reward: RewardSpec

    def sample(self, videos: Tensor, instructions: Sequence[str], actions: Tensor | None = None) -> Tensor:
        """Score clips.

        Args:
            videos: (B, T, 3, H, W), uint8 or in [0, 1]; frame 0 is recorded.
            instructions: (B,).
            actions: (B, T - 1, A) in [-1, 1], leading to frames 1 ... T - 1; None if they are not known.

        Returns:
            Raw scores (S, B, 2, D): S draws from the scorer's distribution (ensemble members, or samples at a
            temperature); axis 2 is ABSOLUTE, FAITHFUL. FAITHFUL is NaN if the scorer needs actions and has none.
        """
        ...


class Judge(Scorer, Protocol):
    """A scorer with a file of its own, which `roboalign.pipeline.judges.load_judge` reads."""

    def save(self, path: Path, provenance: str) -> None:
        """Write a checkpoint whose metadata hold `spec`, `reward` and `provenance`, the hash of what went in."""
        ...


def mean_scores(scorer: Scorer, videos: Tensor, instructions: Sequence[str], actions: Tensor | None = None) -> Tensor:
    """The mean of a scorer's raw scores (B, 2, D) over its draws."""
    return scorer.sample(videos, instructions, actions).mean(0)


def _row(values: Sequence[float], like: Array) -> Array:
    """`values` as an array with the type, dtype and device of `like`."""
    if isinstance(like, Tensor):
        return torch.tensor(values, dtype=like.dtype, device=like.device)
    return np.asarray(values, dtype=like.dtype)


def normalise(scores: Array, spec: RewardSpec) -> Array:
    """Divide raw scores by the maximum score of each dimension."""
    result: Array = scores / _row(spec.max_scores, scores)
    return result


def denormalise(scores: Array, spec: RewardSpec) -> Array:
    """Multiply normalised scores by the maximum score of each dimension."""
    result: Array = scores * _row(spec.max_scores, scores)
    return result


def total(scores: Array, spec: RewardSpec) -> Array:
    """The unweighted sum (...) of raw scores (..., D), as in the paper's tables, in [0, `spec.max_total`].

    Raises ValueError if the last axis does not have one entry for each dimension.
    """
    if scores.shape[-1] != len(spec.dimensions):
        raise ValueError(
            f"scores have {scores.shape[-1]} dimensions, the reward has {len(spec.dimensions)}: "
            "they come from different specs"
        )
    result: Array = scores.sum(-1)
    return result


def weighted_total(scores: Array, spec: RewardSpec) -> Array:
    """The alignment reward R = sum_k w_k g_k (paper), (...), of raw scores (..., D)."""
    result: Array = (scores * _row(spec.weights, scores)).sum(-1)
    return result
