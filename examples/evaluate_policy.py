"""Your own policy in a world model and in the simulator, from the same first frames.

Run it in the folder of a finished experiment: `python examples/evaluate_policy.py`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roboalign.evaluate_policy.evaluate import evaluate
from roboalign.policies.policy import Robot
from roboalign.types import Float32, UInt8


class MyPolicy:
    """Replace this: moves at random, for N robots at once."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot  # robot.source, robot.actions.low and .high
        self.generators: list[np.random.Generator] = []

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Begin N episodes."""
        self.generators = [np.random.default_rng(seed) for seed in seeds]

    def act(self, images: UInt8) -> Float32:
        """The actions (N, A) for images (N, H, W, 3), uint8."""
        low, high = self.robot.actions.low, self.robot.actions.high
        return np.stack([generator.uniform(low, high) for generator in self.generators]).astype(np.float32)


if __name__ == "__main__":
    for world in ("supervised", "aligned", "simulator"):
        result = evaluate(MyPolicy, Path(), "fetch", world, episodes=8, horizon=30)
        print(f"{world}: success {result.rate.mean:.2f} [{result.rate.low:.2f}, {result.rate.high:.2f}]")
