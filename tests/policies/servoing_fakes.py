"""A table with an arm and an object, whose images hold the state as numbers, and a probe that reads them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from roboalign.policies.policy import Robot
from roboalign.policies.visual_servoing import ServoingCalibration, TaskCalibration
from roboalign.probe.model import Perception, Probe
from roboalign.probe.spec import PerceptionSpec
from roboalign.store import ActionRange
from roboalign.types import STATE_NAMES, Float32, UInt8

TASKS = [("arm", "push"), ("arm", "pick_and_place"), ("other", "push")]
ROBOT = Robot("arm", ActionRange((-0.5, -0.5, -0.5, -1.0), (0.5, 0.5, 0.5, 1.0)))
CAMERA = np.array([0.4, 0.5, 0.6])
DISPLACEMENT = np.diag([0.06, 0.07, 0.065])
HOME, HEIGHT = np.array([0.02, 0.0, 0.2]), 0.02
CALIBRATION = ServoingCalibration(
    DISPLACEMENT,
    {"push": TaskCalibration(HOME, HEIGHT, HEIGHT), "pick_and_place": TaskCalibration(HOME, HEIGHT, None)},
)
SIDE, SIZE, SUCCESS = 0.03, 32, STATE_NAMES.index("success")
DEPTH_ERROR = 1.06
"""Factor on the perceived distance of the object from the camera."""


class NumberProbe(Probe):
    """Reads the numbers of an image. It errs along the ray in the depth of the object, and its two members err in
    opposite directions in the goal. The gripper that it perceives is off by two centimetres."""

    def __init__(self) -> None:
        super().__init__(PerceptionSpec(widths=(8, 16), hidden_size=16, members=2), TASKS, (SIZE, SIZE))
        self.scenes.lenses[:, :, 3] = torch.from_numpy(CAMERA)
        self.scenes.pictures[:] = torch.tensor([60, 120, 180], dtype=torch.uint8).view(3, 1, 1, 1)
        self.scenes.radii[:] = 0.1

    def perceive(self, videos: Tensor, tasks: Tensor, member: int) -> Perception:
        camera = torch.from_numpy(CAMERA).float()
        red, green, _ = (videos[:, :, :, 0, : len(STATE_NAMES)] * 255).round().unbind(2)
        states = (red * 256 + green) / 65_535 * 2 - 1
        states[..., :3] += 0.02
        states[..., 3:6] = camera + (states[..., 3:6] - camera) * DEPTH_ERROR
        states[..., 6:9] += 0.1 if member else -0.1
        return Perception(states, torch.zeros(0), torch.zeros(0))


class TableEnv(VectorEnv[Any, Any, Any]):
    """N tables of one task; the object is pushed by contact, or carried by closed fingers."""

    def __init__(self, copies: int, task: str, *, left_behind: bool = False) -> None:
        self.num_envs, self.task, self.left_behind = copies, task, left_behind
        self.states = np.zeros((copies, len(STATE_NAMES)))

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        assert options is not None
        for row, name in enumerate(options["episodes"]):
            rng = np.random.default_rng(int(name.split("/")[1]))
            item, goal = (np.append(rng.uniform(-0.1, 0.1, 2), HEIGHT) for _ in range(2))
            if self.task == "pick_and_place":
                goal[2] = rng.uniform(0.08, 0.15)
            self.states[row] = [*HOME, *item, *goal, 1.0, 0, 0, 0, 0]
        return self._observe(), {"states": self.states.astype(np.float32)}

    def step(self, actions: Float32) -> Any:
        for state, action in zip(self.states, actions, strict=True):
            gripper, item, goal = (state[start : start + 3] for start in (0, 3, 6))
            held = state[9] < 0.5 and np.linalg.norm(item - gripper) < 0.02
            for _ in range(8):
                step = action[:3].astype(float) @ DISPLACEMENT / 8
                gripper += step
                offset = item[:2] - gripper[:2]
                distance = float(np.linalg.norm(offset))
                if held and not self.left_behind:
                    item += step
                elif self.task == "push" and gripper[2] < 0.05 and distance < SIDE:
                    item[:2] += offset / max(distance, 1e-6) * (SIDE - distance)
            state[9] = np.clip(state[9] + 0.6 * action[3], 0.0, 1.0)
            state[SUCCESS] = np.linalg.norm(item - goal) < 0.03
        nothing, found = np.zeros(self.num_envs, bool), self.states.astype(np.float32)
        return self._observe(), nothing * 1.0, nothing, nothing, {"states": found, "_states": ~nothing}

    def _observe(self) -> dict[str, Any]:
        level = 60 if self.task == "push" else 120
        images = np.stack([draw(state, level) for state in self.states])
        return {"image": images, "instruction": (self.task,) * self.num_envs}


def draw(state: NDArray[np.float64], level: int) -> UInt8:
    """An image (H, W, 3) of a brightness that identifies the task, with a state (14,) in [-1, 1] in its first row."""
    image = np.full((SIZE, SIZE, 3), level, np.uint8)
    numbers = ((np.asarray(state) + 1) / 2 * 65_535).round().astype(int)
    image[0, : len(numbers), 0], image[0, : len(numbers), 1] = numbers >> 8, numbers & 255
    return image


def episodes(count: int) -> Sequence[str]:
    """Names of episodes."""
    return [f"arm/{number:06d}" for number in range(count)]
