"""A policy in closed loop with a vector environment, a simulated robot's or a world model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from roboalign.policies.checked_policy import CheckedPolicy
from roboalign.types import Float32, UInt8


@dataclass(frozen=True)
class ClosedLoop:
    """N episodes of a policy."""

    frames: UInt8
    """(N, T + 1, H, W, 3); frame 0 is the first one of the recorded episode."""
    actions: Float32
    """(N, T, A), in the source's units; action t leads to frame t + 1."""
    success: NDArray[np.float64]
    """(N, T), whether frame t + 1 shows success, by the environment, 0 or 1."""


def run_closed_loop(
    policy: CheckedPolicy, env: "VectorEnv[Any, Any, Any]", episodes: Sequence[str], seeds: Sequence[int], horizon: int
) -> ClosedLoop:
    """Run a policy from the first frames of recorded episodes, for all of `horizon` frames.

    Args:
        policy: The policy.
        env: An environment of as many copies as there are episodes, without automatic resets.
        episodes: Names of the episodes, such as fetch/000012.
        seeds: Seeds of the policy and of the environment, one for each copy.
        horizon: Frames to act for.

    Raises:
        PolicyError: The policy failed, or its actions are not valid.
    """
    observation, _ = env.reset(seed=list(seeds), options={"episodes": list(episodes)})
    policy.episodes = episodes
    policy.reset(observation["instruction"], seeds)
    frames, actions, success = [observation["image"].copy()], [], []
    for _ in range(horizon):
        actions.append(policy.act(observation["image"]))
        observation, _, _, _, info = env.step(actions[-1])
        frames.append(observation["image"].copy())
        success.append(np.asarray(info["success"], np.float64))
    return ClosedLoop(np.stack(frames, 1), np.stack(actions, 1), np.stack(success, 1))
