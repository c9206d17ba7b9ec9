"""Scripted experts for arms whose action is a gripper displacement: pushing, and picking up and placing.

Pure functions of the positions, so that one script serves every such arm.
"""

import numpy as np

from roboalign.sources.simulators.simulator import Vector

CLEARANCE = 0.05
"""Metres above an object at which the gripper passes over it."""


def push(gripper: Vector, item: Vector, goal: Vector, *, gain: float, height: float, behind: float) -> Vector:
    """The displacement (3,) in [-1, 1] that pushes an object along a table: go over a point behind it as seen from the
    goal, come down, and push towards the goal.

    `gain` is action a metre, `height` the gripper's over the object while pushing, `behind` the distance from the
    object's centre to the gripper while pushing, both in metres.
    """
    way = goal[:2] - item[:2]
    left = float(np.linalg.norm(way))
    if left < 0.015:
        return np.zeros(3)
    direction = way / left
    start = np.append(item[:2] - direction * behind, item[2] + height)
    offset = gripper - item
    along, across = float(offset[:2] @ direction), _sideways(offset, direction)
    clear = item[2] + height + CLEARANCE
    aside = float(np.linalg.norm(across))
    if along < -0.5 * behind and aside < 0.03 and gripper[2] < start[2] + 0.015:
        # What is left of the way sets the pace; an object that slips aside is first brought back in line.
        pace = min(left, 0.08) * max(0.2, 1 - aside / 0.02)
        target = np.append(gripper[:2] + direction * pace - 3 * across, start[2])
    elif np.linalg.norm(gripper[:2] - start[:2]) < (0.015 if gripper[2] > clear else 0.03):
        # The tolerance grows on the way down: a controller that drifts a little does not start over.
        target = start
    elif gripper[2] < clear:
        target = np.append(gripper[:2], clear + 0.02)
    else:
        target = np.append(start[:2], clear + 0.01)
    return np.asarray(np.clip(gain * (target - gripper), -1, 1))


def _sideways(offset: Vector, direction: Vector) -> Vector:
    """The part (2,) of an offset across a direction."""
    return np.asarray(offset[:2] - (offset[:2] @ direction) * direction)


def pick_and_place(
    gripper: Vector, item: Vector, goal: Vector, held: bool, *, gain: float, depth: float = 0.0
) -> Vector:
    """The displacement (3,) and finger motion in [-1, 1] that picks an object up and holds it at the goal: go over it,
    come down with open fingers, close them, and lift before moving aside.

    `held` says whether the fingers hold the object; `gain` is action a metre; `depth` is the gripper's place below the
    object's centre while grasping, in metres.
    """
    offset = item - gripper - [0, 0, depth]
    aside = float(np.linalg.norm(offset[:2]))
    if held and aside < 0.04 and abs(offset[2]) < 0.04:
        way = goal - item
        if way[2] > 0.03:
            way[:2] *= 0.3
        return np.append(np.clip(gain * way, -1, 1), -1.0)
    # The tolerance grows on the way down: a controller that drifts a little does not start over.
    if aside > (0.015 if offset[2] < -0.055 else 0.03):
        above = np.append(item[:2], max(item[2] + 0.06, min(gripper[2], item[2] + 0.1)))
        return np.append(np.clip(gain * (above - gripper), -1, 1), 1.0)
    closing = -1.0 if abs(offset[2]) < 0.015 else 1.0
    return np.append(np.clip(gain * offset, -1, 1), closing)


def wrong_goal(rng: np.random.Generator, item: Vector, goal: Vector, centre: Vector, reach: float) -> Vector:
    """A point (3,) at the goal's height to work towards in the goal's place.

    It lies within `reach` metres of `centre` in x and y, clear of the goal and of the object's place as far as 60 tries
    find such a point.
    """
    points = centre[:2] + rng.uniform(-reach, reach, (60, 2))
    room = np.minimum(np.linalg.norm(points - goal[:2], axis=1), 1.5 * np.linalg.norm(points - item[:2], axis=1))
    enough = np.flatnonzero(room > 0.11)
    return np.append(points[enough[0] if len(enough) else room.argmax()], goal[2])
