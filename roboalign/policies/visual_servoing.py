"""Visual servoing: a scripted controller on what a state probe perceives.

The scripted experts read the simulator's state, so a world model can only replay their actions. This policy reads
images, and acts in closed loop in both. The probe is not the gold one, which judges success.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from roboalign.policies.policy import NOISE_CORRELATION, Robot, SmoothNoise
from roboalign.policies.spec import VisualServoingSpec
from roboalign.probe.model import Probe
from roboalign.types import STATE_NAMES, Float32, UInt8
from roboalign.video import frames_to_video

Vector = NDArray[np.float64]

Controller = Callable[[str, Vector, Vector, Vector, bool], Vector]
"""Task, positions (3,) of gripper, object and goal in metres, and whether the object is held, to an action (A,)."""

HELD_AFTER = 2
"""Frames in which the fingers close until they hold the object; the probe sees their opening less reliably."""
CONSTANT = 1e-3
"""Range in metres up to which initial heights are constant."""

_GRIPPER, _OBJECT, _GOAL = (
    slice(start, start + 3) for start in map(STATE_NAMES.index, ("gripper_x", "object_x", "goal_x"))
)


@dataclass(frozen=True)
class TaskCalibration:
    """Initial positions of a task, and the heights of its object and goal."""

    home: Vector
    """Initial position (3,) of the gripper in metres."""
    object_height: float | None
    """Initial height of the object in metres, None if it varies."""
    goal_height: float | None
    """Height of the goal in metres, None if it varies."""


@dataclass(frozen=True)
class ServoingCalibration:
    """A source's robot as its train episodes show it."""

    displacement: Vector
    """(3, 3): the displacement of the gripper within a frame, in metres, for one unit of each of the first three
    dimensions of the action (rows)."""
    tasks: Mapping[str, TaskCalibration]


def calibrate(episodes: Sequence[tuple[str, Float32, Float32]]) -> ServoingCalibration:
    """Calibrate a source by its train episodes: least squares for the displacement, medians for the first frames.

    Args:
        episodes: Task, states (T, 14), columns STATE_NAMES, and actions (T, A) in the source's units of each episode.

    Raises:
        ValueError: There is no episode.
    """
    if not episodes:
        raise ValueError("no episode to calibrate by")
    actions = np.concatenate([each[:-1, :3] for _, _, each in episodes]).astype(np.float64)
    moved = np.concatenate([np.diff(states[:, _GRIPPER], axis=0) for _, states, _ in episodes]).astype(np.float64)
    first: dict[str, list[Float32]] = {}
    for task, states, _ in episodes:
        first.setdefault(task, []).append(states[0])
    tasks = {}
    for task, rows in first.items():
        table = np.stack(rows).astype(np.float64)
        home = np.median(table[:, _GRIPPER], axis=0)
        heights = (_constant(table[:, part][:, 2]) for part in (_OBJECT, _GOAL))
        tasks[task] = TaskCalibration(home, *heights)
    displacement = np.linalg.lstsq(actions, moved, rcond=None)[0]
    return ServoingCalibration(np.asarray(displacement, np.float64), tasks)


def _constant(values: Vector) -> float | None:
    """The median of values (N,), None if they vary or if there are too few to tell."""
    return float(np.median(values)) if len(values) > 1 and np.ptp(values) < CONSTANT else None


def move_to_height(point: Vector, camera: Vector, height: float | None) -> Vector:
    """The point (3,) at a height on the ray from the camera (3,) through a perceived point (3,), in metres.

    The image determines a point up to its distance from the camera, and a known height determines that. The point is
    unchanged if the height is None, or if the ray is nearly level or does not come down to it.
    """
    drop = camera[2] - point[2]
    if height is None or drop < 0.1 * np.linalg.norm(camera - point) or height >= camera[2]:
        return point
    return np.asarray(camera + (point - camera) * (camera[2] - height) / drop)


def nearest_on_ray(point: Vector, camera: Vector, target: Vector) -> Vector:
    """The point (3,) nearest to a target (3,) on the ray from the camera (3,) through a perceived point (3,), in
    metres."""
    ray = point - camera
    return np.asarray(camera + ray * ((target - camera) @ ray) / (ray @ ray))


def update_position(predicted: Vector, perceived: Vector, gain: float) -> Vector:
    """The position (..., 3) of the gripper: the predicted one, corrected by a fraction of its difference to the
    perceived one."""
    return predicted + gain * (perceived - predicted)


@dataclass(frozen=True)
class ServoingParts:
    """Collaborators of the policy for one source."""

    probe: Probe
    """Perceives the states; not the gold probe."""
    controller: Controller
    """The scripted controller of the source's robot."""
    calibration: ServoingCalibration
    """The calibration to the source's train episodes."""


@dataclass
class _Estimate:
    """The estimated scene and gripper position of one of the N robots."""

    number: int
    """The probe's number of the task."""
    task: str
    gripper: Vector
    """Position (3,) of the gripper in metres."""
    goal: Vector
    """Position (3,) that the controller works towards."""
    closing: int = 0
    """Frames in which the fingers have been closing."""


class VisualServoingPolicy:
    """Acts by a scripted controller on perceived positions."""

    def __init__(self, spec: VisualServoingSpec, parts: ServoingParts, robot: Robot) -> None:
        self._spec, self._robot = spec, robot
        self._probe, self._controller, self._calibration = parts.probe, parts.controller, parts.calibration
        self._cameras = parts.probe.scenes.lenses[..., 3].cpu().numpy().astype(np.float64)
        self._estimates: list[_Estimate | None] | None = None
        self._last = np.zeros((0, robot.action_width), np.float32)
        self._noise: SmoothNoise | None = None

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Forget the scenes; the next images are the first ones."""
        self._estimates = None
        width, std = self._robot.action_width, self._spec.noise
        self._noise = SmoothNoise(seeds, width, std, NOISE_CORRELATION) if std > 0 else None

    def act(self, images: UInt8) -> Float32:
        """The controller's actions (N, A), 0 for scenes that the probe or the calibration does not know."""
        if self._estimates is None:
            self._estimates, states = self._begin(images)
        else:
            states = self._perceive(images, self._estimates)
            predicted = self._last[:, :3].astype(np.float64) @ self._calibration.displacement
            for estimate, displacement, state in zip(self._estimates, predicted, states, strict=True):
                if estimate is not None:
                    estimate.gripper = update_position(
                        estimate.gripper + displacement, state[_GRIPPER], self._spec.gain
                    )
        low, high = np.asarray(self._robot.actions.low), np.asarray(self._robot.actions.high)
        actions = np.zeros((len(images), self._robot.action_width))
        noise = np.zeros_like(actions) if self._noise is None else self._noise() * (high - low) / 2
        for row, (estimate, state) in enumerate(zip(self._estimates, states, strict=True)):
            if estimate is not None:
                actions[row] = self._control(estimate, state) + noise[row]
        self._last = np.clip(actions, low, high).astype(np.float32)
        return self._last

    @torch.no_grad()
    def _begin(self, images: UInt8) -> tuple[list[_Estimate | None], Vector]:
        """Identify the scenes of the first images, and perceive the goals and the states (N, 14)."""
        device = self._probe.scenes.means.device
        found = self._probe.scenes.identify(frames_to_video(images, device)).tolist()
        estimates: list[_Estimate | None] = []
        for number in found:
            source, task = self._probe.tasks[number] if number >= 0 else ("", "")
            known = source == self._robot.source and task in self._calibration.tasks
            home = self._calibration.tasks[task].home if known else np.zeros(3)
            estimates.append(_Estimate(number, task, home, np.zeros(3)) if known else None)
        states = self._perceive(images, estimates)
        for estimate, state in zip(estimates, states, strict=True):
            if estimate is not None:
                height = self._calibration.tasks[estimate.task].goal_height
                goal = move_to_height(state[_GOAL], self._cameras[estimate.number], height)
                estimate.goal = goal + self._spec.goal_offset
        return estimates, states

    @torch.no_grad()
    def _perceive(self, images: UInt8, estimates: Sequence[_Estimate | None]) -> Vector:
        """The perceived states (N, 14), the mean over the members; meaningless for None."""
        if not any(estimates):
            return np.zeros((len(estimates), len(STATE_NAMES)))
        probe, device = self._probe, self._probe.scenes.means.device
        tasks = torch.tensor([0 if estimate is None else estimate.number for estimate in estimates], device=device)
        videos = frames_to_video(images, device).unsqueeze(1)
        members = [probe.perceive(videos, tasks, member).states[:, 0] for member in range(len(probe.members))]
        return torch.stack(members).mean(0).cpu().numpy().astype(np.float64)

    def _control(self, estimate: _Estimate, state: Vector) -> Vector:
        """The controller's action (A,) for a perceived state (14,)."""
        held, camera = estimate.closing >= HELD_AFTER, self._cameras[estimate.number]
        item, task = state[_OBJECT], self._calibration.tasks[estimate.task]
        if held and task.goal_height is None:
            # The probe hardly sees the depth of a lifted object. An object that is not held is apart from the gripper
            # in the image, too.
            item = nearest_on_ray(item, camera, estimate.gripper)
        else:  # an object whose goal is on the table stays on it
            item = move_to_height(item, camera, task.object_height)
        action = self._controller(estimate.task, estimate.gripper, item, estimate.goal, held)
        estimate.closing = estimate.closing + 1 if action[3] < 0 else 0
        return action
