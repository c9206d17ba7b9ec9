"""Policies that do not look at the image: constant, random and replayed actions."""

from collections.abc import Sequence

import numpy as np

from roboalign.policies.policy import Robot, SmoothNoise
from roboalign.policies.spec import ConstantPolicySpec, RandomPolicySpec
from roboalign.types import Float32, UInt8


class ConstantPolicy:
    """The same action in every frame."""

    def __init__(self, spec: ConstantPolicySpec, robot: Robot) -> None:
        self._action = robot.denormalise(np.full(robot.action_width, spec.action, np.float32))

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Nothing to prepare."""

    def act(self, images: UInt8) -> Float32:
        """The constant action for every image."""
        return np.tile(self._action, (len(images), 1))


class RandomPolicy:
    """Smooth noise, clipped to the range of the actions."""

    def __init__(self, spec: RandomPolicySpec, robot: Robot) -> None:
        self._spec, self._robot = spec, robot
        self._noise = SmoothNoise([], robot.action_width, spec.std, spec.correlation)

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Start the noise of each copy from its seed."""
        self._noise = SmoothNoise(seeds, self._robot.action_width, self._spec.std, self._spec.correlation)

    def act(self, images: UInt8) -> Float32:
        """The next noise of every copy."""
        return self._robot.denormalise(self._noise())


class ReplayPolicy:
    """Replays actions that were taken elsewhere, clipped to the measured range."""

    def __init__(self, actions: Float32, robot: Robot) -> None:
        """`actions` are (N, T, A), in the source's units."""
        self._actions = np.clip(actions, robot.actions.low, robot.actions.high).astype(np.float32)
        self._step = 0

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Start from the first action."""
        self._step = 0

    def act(self, images: UInt8) -> Float32:
        """The next action of every copy."""
        self._step += 1
        return self._actions[:, self._step - 1]
