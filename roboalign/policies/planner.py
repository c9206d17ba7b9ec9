"""Model predictive control by the cross-entropy method (CEM), on the cost of action sequences in a world model."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from roboalign.policies.policy import Robot
from roboalign.policies.spec import PlannerSpec
from roboalign.types import Float32, UInt8


class CostModel(Protocol):
    """A world model with a reward, as stable-worldmodel's solvers call it."""

    def get_cost(self, info: Mapping[str, Any], action_candidates: Tensor) -> Tensor:
        """The costs (N, S) of action sequences.

        Args:
            info: `pixels`, images (N, H, W, 3), uint8; `instruction`, N texts; `seed`, N seeds.
            action_candidates: (N, S, F, A), normalised to [-1, 1]: S sequences of F actions for each robot.
        """
        ...


class CEMPolicy:
    """Plans a sequence of actions, executes its beginning, and plans again.

    A plan starts from the rest of the one before. Its result is the mean of the last elites, without noise.
    """

    def __init__(self, spec: PlannerSpec, cost_model: CostModel, robot: Robot) -> None:
        self._spec, self._cost_model, self._robot = spec, cost_model, robot
        self._instructions: Sequence[str] = ()
        self._seeds: Sequence[int] = ()
        self._generators: list[np.random.Generator] = []
        self._plans = np.zeros((0, spec.horizon, robot.action_width), np.float32)
        self._step = 0

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Forget all plans."""
        self._instructions, self._seeds, self._step = instructions, seeds, 0
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self._plans = np.zeros((len(seeds), self._spec.horizon, self._robot.action_width), np.float32)

    def act(self, images: UInt8) -> Float32:
        """The next actions of the plans."""
        turn = self._step % self._spec.execute
        if turn == 0:
            self._plans = self._plan(images)
        self._step += 1
        return self._robot.denormalise(self._plans[:, turn])

    def _plan(self, images: UInt8) -> Float32:
        """Plans (N, F, A), normalised, from the images (N, H, W, 3)."""
        spec = self._spec
        mean = np.roll(self._plans, -spec.execute, 1)
        mean[:, -spec.execute :] = 0
        std = np.full_like(mean, spec.std)
        info = {"pixels": images, "instruction": list(self._instructions), "seed": list(self._seeds)}
        for _ in range(spec.iterations):
            candidates = np.clip(mean[:, None] + std[:, None] * self._noise(), -1, 1).astype(np.float32)
            candidates[:, 0] = mean
            costs = self._cost_model.get_cost(info, torch.from_numpy(candidates)).cpu().numpy()
            best = np.argsort(costs, axis=1, kind="stable")[:, : spec.elites]
            elites = np.take_along_axis(candidates, best[:, :, None, None], 1)
            mean, std = elites.mean(1), elites.std(1) + 0.05
        return np.asarray(mean, np.float32)

    def _noise(self) -> Float32:
        """Noise (N, S, F, A) of unit variance, correlated from frame to frame."""
        spec, rho = self._spec, self._spec.correlation
        shape = spec.samples, spec.horizon, self._robot.action_width
        noise = np.stack([generator.normal(size=shape) for generator in self._generators]).astype(np.float32)
        for frame in range(1, spec.horizon):
            noise[:, :, frame] = rho * noise[:, :, frame - 1] + np.sqrt(1 - rho**2) * noise[:, :, frame]
        return noise
