"""The interface of policies, and the robot that a policy acts for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from roboalign.store import ActionRange
from roboalign.types import Float32, UInt8

NOISE_CORRELATION = 0.85
"""Correlation from frame to frame of the noise that grades a policy's quality."""


@dataclass(frozen=True)
class Robot:
    """A source as policies know it."""

    source: str
    actions: ActionRange
    """The measured range of each action dimension, in the source's units."""

    @property
    def action_width(self) -> int:
        """A, the number of action dimensions."""
        return len(self.actions.low)

    def denormalise(self, actions: Float32) -> Float32:
        """(..., A) in [-1, 1], clipped → the source's units; the inverse of `ActionRange.normalise`."""
        low, high = np.asarray(self.actions.low, np.float32), np.asarray(self.actions.high, np.float32)
        values = low + (np.clip(actions, -1, 1) + 1) / 2 * (high - low)
        return np.clip(values, low, high).astype(np.float32)


class Policy(Protocol):
    """Acts for N copies of one robot.

    The copies are independent: the actions of one depend on its images, its instruction and its seed only.
    """

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Begin N episodes, with their instructions and their seeds."""
        ...

    def act(self, images: UInt8) -> Float32:
        """The actions (N, A), float32, in the source's units and within its measured range, for images (N, H, W, 3)."""
        ...


class SmoothNoise:
    """An autoregressive process for each of N copies, from its own seed."""

    def __init__(self, seeds: Sequence[int], width: int, std: float, correlation: float) -> None:
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self._width, self._std, self._correlation = width, std, correlation
        self._value: Float32 | None = None

    def __call__(self) -> Float32:
        """The next values (N, width) of standard deviation `std`."""
        fresh = np.stack([generator.normal(0, self._std, self._width) for generator in self._generators])
        if self._value is None:
            self._value = fresh.astype(np.float32)
        else:
            scale = np.sqrt(1 - self._correlation**2)
            self._value = (self._correlation * self._value + scale * fresh).astype(np.float32)
        return self._value
