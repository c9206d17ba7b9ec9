"""What a simulated robot offers to the recorder."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from roboalign.types import Float32, UInt8

Vector = NDArray[np.float64]
"""An action (A,) with entries from -1 to 1, or a point (3,) in metres."""

ORANGE, GREEN, BLUE = (1.0, 0.5, 0.0), (0.1, 0.9, 0.2), (0.15, 0.3, 0.9)
GREY, DARK = (0.55, 0.55, 0.6), (0.32, 0.3, 0.3)
"""Colours of objects, goals, fingers, and of what carries no meaning: what matters stands out at 64 pixels."""


class Simulator(Protocol):
    """One task of one simulated robot. Everything that happens after `reset(seed)` follows from the seed and the
    actions: nothing is carried over from earlier episodes."""

    rate: float
    """Control steps a second."""

    def reset(self, seed: int) -> None:
        """Set up the initial scene that the seed names."""
        ...

    def set_wrong_goal(self, rng: np.random.Generator) -> None:
        """Make the expert work towards another goal than the scene's; the scene and its verdict stay as they are."""
        ...

    def expert(self) -> Vector:
        """The scripted expert's action (A,) for the current state."""
        ...

    def approach(self, target: Vector, opening: float) -> Vector:
        """The action (A,) that moves the gripper towards a point (3,), opening (1) or closing (-1) its fingers."""
        ...

    def step(self, action: Vector) -> None:
        """Act for one control step."""
        ...

    def frame(self) -> UInt8:
        """The current image (H, W, 3)."""
        ...

    def state(self) -> Float32:
        """The current state (14,), columns STATE_NAMES."""
        ...

    def project(self, points: Vector) -> Float32:
        """Image coordinates (N, 2), 0 to 1 from left and top, of points (N, 3) in the world frame."""
        ...

    def close(self) -> None:
        """Free the renderer."""
        ...
