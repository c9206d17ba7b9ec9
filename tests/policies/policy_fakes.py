"""A vector environment of dots that move as their actions say, towards the mark on the right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from roboalign.policies.policy import Robot
from roboalign.store import ActionRange
from roboalign.types import STATE_NAMES, Float32, UInt8

ROBOT = Robot("toy", ActionRange((-1.0, -2.0), (1.0, 2.0)))
SUCCESS = STATE_NAMES.index("success")


class DotsEnv(VectorEnv[Any, Any, Any]):
    """N dots; a dot succeeds beyond x = 24. Action 0 is its velocity, as a share of `speed` pixels a frame."""

    def __init__(self, copies: int, speed: float = 4.0, width: int = 2, size: int = 32) -> None:
        self.num_envs, self.speed, self.width, self.size = copies, speed, width, size
        self.places = np.zeros(copies)
        self.seeds: Sequence[int] = ()
        self.closed_by_user = False

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        assert options is not None
        assert len(options["episodes"]) == self.num_envs
        self.seeds = seed
        self.places = np.array([8.0 + int(name.split("/")[1]) % 4 for name in options["episodes"]])
        return self._observe(), {"states": np.zeros((self.num_envs, len(STATE_NAMES)), np.float32)}

    def step(self, actions: Float32) -> Any:
        assert actions.shape == (self.num_envs, self.width)
        self.places = np.clip(self.places + self.speed * actions[:, 0], 1, self.size - 2)
        nothing = np.zeros(self.num_envs, bool)
        states = np.zeros((self.num_envs, len(STATE_NAMES)), np.float32)
        states[:, SUCCESS] = self.places > 24
        return self._observe(), nothing * 1.0, nothing, nothing, {"states": states, "_states": ~nothing}

    def close_extras(self, **kwargs: Any) -> None:
        self.closed_by_user = True

    def _observe(self) -> dict[str, Any]:
        image: UInt8 = np.zeros((self.num_envs, self.size, self.size, 3), np.uint8)
        for row, place in enumerate(self.places):
            image[row, 12:20, max(0, int(place) - 2) : int(place) + 2] = 255
        return {"image": image, "instruction": ("go right",) * self.num_envs}
