"""A policy in closed loop with a vector environment, a simulated robot's or a world model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from roboalign.policies.checked_policy import CheckedPolicy
from roboalign.types import STATE_NAMES, Float32, UInt8

_SUCCESS = STATE_NAMES.index("success")
_OBJECT, _GOAL = (slice(start, start + 3) for start in (STATE_NAMES.index("object_x"), STATE_NAMES.index("goal_x")))


@dataclass(frozen=True)
class ClosedLoop:
    """N episodes of a policy."""

    frames: UInt8
    """(N, T + 1, H, W, 3); frame 0 is the first one of the recorded episode."""
    actions: Float32
    """(N, T, A), in the source's units; action t leads to frame t + 1."""
    success: Float32
    """(N, T), the probability that frame t + 1 shows success; 0 or 1 in a simulator. NaN if it is not known."""
    distance: Float32
    """(N, T), distance in metres from the object in frame t + 1 to the goal in frame 0; perceived in a world model."""

    @classmethod
    def join(cls, parts: "Sequence[ClosedLoop]", count: int) -> "ClosedLoop":
        """The first `count` episodes of some batches."""
        return cls(
            np.concatenate([part.frames for part in parts])[:count],
            np.concatenate([part.actions for part in parts])[:count],
            np.concatenate([part.success for part in parts])[:count],
            np.concatenate([part.distance for part in parts])[:count],
        )


def run_closed_loop(
    policy: CheckedPolicy,
    env: "VectorEnv[Any, Any, Any]",
    episodes: Sequence[str],
    seeds: Sequence[int],
    horizon: int,
    instructions: Sequence[str] | None = None,
) -> ClosedLoop:
    """Run a policy from the first frames of recorded episodes, for all of `horizon` frames.

    Args:
        policy: The policy.
        env: An environment of as many copies as there are episodes, which neither ends nor resets a copy before the
            horizon.
        episodes: Names of the episodes, such as fetch/000012.
        seeds: Seeds of the policy and of the environment, one for each copy.
        horizon: Frames to act for.
        instructions: Instructions for the policy; None for those of the episodes.

    Raises:
        PolicyError: The policy failed, or its actions are not valid.
    """
    one_for_each: Any = list(seeds)  # Gymnasium's type names one seed only
    observation, info = env.reset(seed=one_for_each, options={"episodes": list(episodes)})
    policy.episodes = episodes
    policy.reset(observation["instruction"] if instructions is None else instructions, seeds)
    goals = info["states"][:, _GOAL].copy()
    frames, actions, success, distance = [observation["image"].copy()], [], [], []
    for _ in range(horizon):
        actions.append(policy.act(observation["image"]))
        observation, _, _, _, info = env.step(actions[-1])
        frames.append(observation["image"].copy())
        success.append(np.where(info["_states"], info["states"][:, _SUCCESS], np.nan))
        distance.append(np.linalg.norm(info["states"][:, _OBJECT] - goals, axis=1))
    known = (np.stack(each, 1).astype(np.float32) for each in (success, distance))
    return ClosedLoop(np.stack(frames, 1), np.stack(actions, 1), *known)
