"""The scripted experts, on a table where what they say happens."""

import numpy as np
import pytest

from roboalign.sources.simulators.pusher import DisplacementController, pick_and_place, push, wrong_goal

SIDE = 0.03


@pytest.mark.parametrize("seed", range(12))
def test_pushing_brings_the_object_to_the_goal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    item, goal = np.append(rng.uniform(-0.1, 0.1, 2), 0.02), np.append(rng.uniform(-0.1, 0.1, 2), 0.02)
    gripper = np.array([0.0, 0.0, 0.2])
    for _ in range(300):
        gripper = gripper + 0.02 * push(gripper, item, goal, gain=16.0, height=0.0, behind=0.05)
        offset = item[:2] - gripper[:2]
        distance = float(np.linalg.norm(offset))
        if gripper[2] < 0.05 and distance < SIDE:
            item[:2] += offset / max(distance, 1e-6) * (SIDE - distance)
    assert np.linalg.norm(item - goal) < 0.03


@pytest.mark.parametrize("seed", range(12))
def test_picking_brings_the_object_to_the_goal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    item, goal = np.append(rng.uniform(-0.1, 0.1, 2), 0.02), rng.uniform([-0.1, -0.1, 0.05], [0.1, 0.1, 0.2])
    gripper, opening = np.array([0.0, 0.0, 0.2]), 1.0
    for _ in range(300):
        action = pick_and_place(gripper, item, goal, opening < 0.5, gain=16.0)
        step = 0.02 * action[:3]
        near = np.linalg.norm(item - gripper) < 0.02
        opening = float(np.clip(opening + 0.2 * action[3], 0.4 if near else 0.0, 1))
        gripper = gripper + step
        item = item + step if near and opening < 0.5 else item
    assert np.linalg.norm(item - goal) < 0.01


def test_a_controller_scales_the_displacement_and_moves_the_fingers_in_full() -> None:
    controller = DisplacementController(scale=0.4, behind=0.06)
    gripper, item, goal = np.array([0.1, 0.0, 0.2]), np.array([0.0, 0.05, 0.02]), np.array([-0.1, 0.0, 0.02])
    pushing = controller("push", gripper, item, goal, False)
    np.testing.assert_array_equal(pushing[:3], 0.4 * push(gripper, item, goal, gain=16.0, height=0.0, behind=0.06))
    assert pushing[3] == -1
    for held, near in ((False, gripper), (True, item)):
        picking, action = (
            controller("pick_and_place", near, item, goal, held),
            pick_and_place(near, item, goal, held, gain=16.0),
        )
        np.testing.assert_array_equal(picking, [*(0.4 * action[:3]), action[3]])
    with pytest.raises(ValueError, match="no task 'lift'"):
        controller("lift", gripper, item, goal, False)


def test_a_pushed_object_at_the_goal_is_left_alone() -> None:
    place = np.array([0.1, 0.0, 0.02])
    assert not push(np.array([0.15, 0.0, 0.02]), place, place, gain=16.0, height=0.0, behind=0.05).any()


@pytest.mark.parametrize("seed", range(12))
def test_a_wrong_goal_is_on_the_table_and_clear_of_the_right_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    item, goal = rng.uniform(-0.1, 0.1, 3), rng.uniform(-0.1, 0.1, 3)
    aim = wrong_goal(rng, item, goal, np.zeros(2), 0.12)
    assert np.abs(aim[:2]).max() <= 0.12
    assert np.linalg.norm(aim[:2] - goal[:2]) > 0.1
    assert aim[2] == goal[2]
