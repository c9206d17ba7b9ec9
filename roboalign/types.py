"""The data types that stages exchange. This module uses numpy and must not import torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboalign.spec.base import PROPRIOCEPTION_NAMES, Policy, Split

__all__ = [
    "KEYPOINT_NAMES",
    "PROPRIOCEPTION_NAMES",
    "STATE_NAMES",
    "Episode",
    "Float32",
    "Json",
    "Policy",
    "Split",
    "UInt8",
]

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

STATE_NAMES: tuple[str, ...] = (
    "gripper_x", "gripper_y", "gripper_z",
    "object_x", "object_y", "object_z",
    "goal_x", "goal_y", "goal_z",
    "opening", "contact", "force", "penetration", "success",
)  # fmt: skip
"""Columns of a simulator state: positions in metres in the world frame, finger opening from 0 (closed) to 1 (open),
contact of gripper and object (0 or 1), its normal force in newtons, the maximum penetration of any contact in metres,
and the simulator's success flag (0 or 1)."""

KEYPOINT_NAMES: tuple[str, ...] = ("gripper_u", "gripper_v", "object_u", "object_v", "goal_u", "goal_v")
"""Columns of the projected keypoints: image coordinates, from 0 to 1, from the left (u) and from the top (v)."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One recorded or generated episode of T frames.

    `frames` is (T, H, W, 3), RGB. `actions` is (T, A), in the source's units: action t was chosen at frame t and leads
    to frame t + 1, so the last one leads beyond the end. `state` is (T, 14), columns STATE_NAMES, and `keypoints` is
    (T, 6), columns KEYPOINT_NAMES; both are None if the source has none (real robots, generated clips).
    `proprioception` is (T, P), the robot's measurements of itself, in the source's units; None if they are not read.
    `scene` names the initial scene: episodes with the same scene must be in the same split.
    """

    id: str
    source: str
    task: str
    instruction: str
    policy: Policy
    scene: str
    split: Split
    frames: UInt8
    actions: Float32
    state: Float32 | None = None
    keypoints: Float32 | None = None
    proprioception: Float32 | None = None

    @property
    def success(self) -> bool | None:
        """Whether the simulator reports success at the last frame; None without states."""
        return None if self.state is None else bool(self.state[-1, STATE_NAMES.index("success")] > 0.5)


Json = Any
"""A JSON value."""
