"""Trivial policies, which do not look at the image: constant and random actions."""

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
