"""Scripted experts for arms whose action is a gripper displacement: pushing, and picking and placing.

Pure functions of positions, shared by all such arms.
"""

from dataclasses import dataclass

import numpy as np

from roboalign.sources.simulators.simulator import Vector

CLEARANCE = 0.05
"""Height in metres above an object at which the gripper passes over it."""


def push(gripper: Vector, item: Vector, goal: Vector, *, gain: float, height: float, behind: float) -> Vector:
    """Return the displacement (3,) in [-1, 1] that pushes an object along a table.

    The gripper moves over a point behind the object as seen from the goal, descends, and pushes towards the goal.

    Args:
        gripper: position (3,) of the gripper in metres.
        item: position (3,) of the object in metres.
        goal: goal (3,) of the object in metres.
        gain: action per metre.
        height: height of the gripper above the object while pushing, in metres.
        behind: distance from the object's centre to the gripper while pushing, in metres.
    """
    displacement = goal[:2] - item[:2]
    distance = float(np.linalg.norm(displacement))
    if distance < 0.015:
        return np.zeros(3)
    direction = displacement / distance
    start = np.append(item[:2] - direction * behind, item[2] + height)
    offset = gripper - item
    along, across = float(offset[:2] @ direction), _sideways(offset, direction)
    clear = item[2] + height + CLEARANCE
    lateral_error = float(np.linalg.norm(across))
    if along < -0.5 * behind and lateral_error < 0.03 and gripper[2] < start[2] + 0.015:
        # The remaining distance sets the speed; an object that slips sideways is realigned first.
        speed = min(distance, 0.08) * max(0.2, 1 - lateral_error / 0.02)
        target = np.append(gripper[:2] + direction * speed - 3 * across, start[2])
    elif np.linalg.norm(gripper[:2] - start[:2]) < (0.015 if gripper[2] > clear else 0.03):
        # The tolerance is larger while descending, so that a slight drift does not restart the approach.
        target = start
    elif gripper[2] < clear:
        target = np.append(gripper[:2], clear + 0.02)
    else:
        target = np.append(start[:2], clear + 0.01)
    return np.asarray(np.clip(gain * (target - gripper), -1, 1))


def _sideways(offset: Vector, direction: Vector) -> Vector:
    """Return the component (2,) of an offset perpendicular to a direction."""
    return np.asarray(offset[:2] - (offset[:2] @ direction) * direction)


def pick_and_place(
    gripper: Vector, item: Vector, goal: Vector, held: bool, *, gain: float, depth: float = 0.0
) -> Vector:
    """Return the action (4,) in [-1, 1], displacement and finger motion, that picks an object up and holds it at the
    goal.

    The gripper moves over the object, descends with open fingers, closes them, and lifts before moving sideways.

    Args:
        gripper: position (3,) of the gripper in metres.
        item: position (3,) of the object in metres.
        goal: goal (3,) of the object in metres.
        held: whether the fingers hold the object.
        gain: action per metre.
        depth: distance of the gripper below the object's centre while grasping, in metres.
    """
    offset = item - gripper - [0, 0, depth]
    lateral_error = float(np.linalg.norm(offset[:2]))
    if held and lateral_error < 0.04 and abs(offset[2]) < 0.04:
        displacement = goal - item
        if displacement[2] > 0.03:
            displacement[:2] *= 0.3
        return np.append(np.clip(gain * displacement, -1, 1), -1.0)
    # The tolerance is larger while descending, so that a slight drift does not restart the approach.
    if lateral_error > (0.015 if offset[2] < -0.055 else 0.03):
        above = np.append(item[:2], max(item[2] + 0.06, min(gripper[2], item[2] + 0.1)))
        return np.append(np.clip(gain * (above - gripper), -1, 1), 1.0)
    closing = -1.0 if abs(offset[2]) < 0.015 else 1.0
    return np.append(np.clip(gain * offset, -1, 1), closing)


@dataclass(frozen=True)
class DisplacementController:
    """The scripted controller of an arm whose action is a gripper displacement and a finger motion.

    It is a pure function of positions, so it acts on those of a simulator as on perceived ones.
    """

    scale: float
    """Factor on the displacement, so that a task fills an episode."""
    behind: float
    """Distance from the object's centre to the gripper while pushing, in metres."""
    gain: float = 16.0
    """Action per metre, before `scale`."""

    def __call__(self, task: str, gripper: Vector, item: Vector, goal: Vector, held: bool) -> Vector:
        """Return the action (4,) in [-1, 1].

        Args:
            task: `push` or `pick_and_place`.
            gripper: position (3,) of the gripper in metres.
            item: position (3,) of the object in metres.
            goal: goal (3,) of the object in metres.
            held: whether the fingers hold the object; has no effect on pushing.

        Raises:
            ValueError: The task is another one.
        """
        match task:
            case "push":
                displacement = push(gripper, item, goal, gain=self.gain, height=0.0, behind=self.behind)
                return np.append(self.scale * displacement, -1.0)
            case "pick_and_place":
                action = pick_and_place(gripper, item, goal, held, gain=self.gain)
                return np.append(self.scale * action[:3], action[3])
            case _:
                raise ValueError(f"the controller has no task '{task}'; it has push and pick_and_place")


def wrong_goal(rng: np.random.Generator, item: Vector, goal: Vector, centre: Vector, reach: float) -> Vector:
    """Return a wrong goal (3,) at the height of the goal.

    It is within `reach` metres of `centre` in x and y, and apart from the goal and the object if 60 random tries find
    such a point.
    """
    points = centre[:2] + rng.uniform(-reach, reach, (60, 2))
    clearance = np.minimum(np.linalg.norm(points - goal[:2], axis=1), 1.5 * np.linalg.norm(points - item[:2], axis=1))
    clear = np.flatnonzero(clearance > 0.11)
    return np.append(points[clear[0] if len(clear) else clearance.argmax()], goal[2])
