"""The interface between simulated robots and the recorder."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from roboalign.types import Float32, UInt8

Vector = NDArray[np.float64]
"""An action (A,) with entries in [-1, 1], or a point (3,) in metres."""

ORANGE, GREEN, BLUE = (1.0, 0.5, 0.0), (0.1, 0.9, 0.2), (0.15, 0.3, 0.9)
GREY, DARK = (0.55, 0.55, 0.6), (0.32, 0.3, 0.3)
"""Colours of objects, goals, fingers, and of irrelevant parts: relevant parts stand out at 64 pixels."""


class Simulator(Protocol):
    """One task of one simulated robot.

    Everything after `reset(seed)` is determined by the seed and the actions; earlier episodes have no effect.
    """

    rate: float
    """Control steps per second."""

    def reset(self, seed: int) -> None:
        """Reset to the initial scene of a seed."""
        ...

    def set_wrong_goal(self, rng: np.random.Generator) -> None:
        """Set a wrong goal for the expert; the scene and its success criterion do not change."""
        ...

    def expert(self) -> Vector:
        """Return the scripted expert's action (A,) for the current state."""
        ...

    def approach(self, target: Vector, opening: float) -> Vector:
        """Return the action (A,) that moves the gripper towards a point (3,) while opening (1) or closing (-1) the
        fingers."""
        ...

    def step(self, action: Vector) -> None:
        """Apply an action for one control step."""
        ...

    def frame(self) -> UInt8:
        """Return the current image (H, W, 3)."""
        ...

    def state(self) -> Float32:
        """Return the current state (14,), columns STATE_NAMES."""
        ...

    def project(self, points: Vector) -> Float32:
        """Return image coordinates (N, 2), from 0 to 1 from left and top, of points (N, 3) in the world frame."""
        ...

    def close(self) -> None:
        """Free the renderer."""
        ...
