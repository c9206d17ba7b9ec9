"""Visual servoing: its calibration, its geometry, and closed loops on a table that a probe perceives with errors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from servoing_fakes import (
    CALIBRATION,
    CAMERA,
    DISPLACEMENT,
    HEIGHT,
    HOME,
    ROBOT,
    NumberProbe,
    TableEnv,
    draw,
    episodes,
)

from roboalign.errors import StageError
from roboalign.pipeline.policies import calibrate_servoing, make_policy_parts
from roboalign.policies.checked_policy import CheckedPolicy
from roboalign.policies.closed_loop import ClosedLoop, run_closed_loop
from roboalign.policies.spec import PoliciesSpec, VisualServoingSpec
from roboalign.policies.visual_servoing import (
    ServoingParts,
    VisualServoingPolicy,
    calibrate,
    move_to_height,
    nearest_on_ray,
    update_position,
)
from roboalign.run import Run
from roboalign.sources.simulators.pusher import DisplacementController
from roboalign.sources.simulators.spec import JacoSpec
from roboalign.store import Corpus
from roboalign.types import STATE_NAMES, Episode

COUNT = 4


def policy(**fields: Any) -> VisualServoingPolicy:
    spec = VisualServoingSpec.model_validate({"kind": "visual_servoing", **fields})
    parts = ServoingParts(NumberProbe(), DisplacementController(scale=0.45, behind=0.05), CALIBRATION)
    return VisualServoingPolicy(spec, parts, ROBOT)


def close_loop(task: str, *, left_behind: bool = False, **fields: Any) -> ClosedLoop:
    checked = CheckedPolicy("servo", policy(**fields), ROBOT, 60.0)
    env = TableEnv(COUNT, task, left_behind=left_behind)
    return run_closed_loop(checked, env, episodes(COUNT), range(COUNT), 36)


def success(loop: ClosedLoop) -> float:
    return float(loop.success[:, -1].mean())


@pytest.mark.parametrize("task", ["push", "pick_and_place"])
def test_it_solves_the_task_in_closed_loop(task: str) -> None:
    assert success(close_loop(task)) >= 0.75


def test_noise_and_a_wrong_goal_grade_the_quality() -> None:
    assert success(close_loop("push", noise=1.5)) <= 0.5
    wrong = close_loop("pick_and_place", goal_offset=[0.08, 0.0, 0.0])
    assert success(wrong) == 0
    assert np.median(wrong.distance[:, -1]) == pytest.approx(0.08, abs=0.02)


def test_an_object_that_is_left_behind_is_tried_again() -> None:
    loop = close_loop("pick_and_place", left_behind=True)
    assert success(loop) == 0
    opens = (np.diff(np.sign(loop.actions[:, :, 3]), axis=1) > 0).sum(1)
    assert (opens >= 1).all(), "the fingers open again"


def test_the_controller_gets_the_dead_reckoned_gripper_the_corrected_object_and_the_first_goal() -> None:
    calls: list[Any] = []

    def controller(task: str, gripper: Any, item: Any, goal: Any, held: bool) -> Any:
        calls.append((task, gripper.copy(), item.copy(), goal.copy(), held))
        return np.array([0.5, -0.5, 0.2, -1.0])

    spec = VisualServoingSpec(kind="visual_servoing", gain=0.1, goal_offset=(0.0, 0.05, 0.0))
    acting = VisualServoingPolicy(spec, ServoingParts(NumberProbe(), controller, CALIBRATION), ROBOT)
    acting.reset(["pick"], [0])
    state = np.zeros(len(STATE_NAMES))
    item = np.array([0.1, 0.05, HEIGHT])
    for frame in range(4):
        state[:3], state[3:6], state[6:9] = [0.05, 0.0, 0.1], item, [-0.1, 0.02 * frame, 0.1]
        acting.act(draw(state, 120)[None])
    tasks, grippers, items, goals, held = zip(*calls, strict=True)
    assert set(tasks) == {"pick_and_place"}
    assert held == (False, False, True, True), "two closing commands hold the object"
    expected = HOME
    for frame, gripper in enumerate(grippers):
        if frame:
            expected = expected + np.array([0.5, -0.5, 0.2]) @ DISPLACEMENT
            expected = expected + 0.1 * (np.array([0.07, 0.02, 0.12]) - expected)  # perceived 2 cm off
        np.testing.assert_allclose(gripper, expected, atol=1e-4)
    np.testing.assert_allclose(items[:2], [item, item], atol=2e-4)
    np.testing.assert_allclose(items[2], nearest_on_ray(item, CAMERA, grippers[2]), atol=2e-4)
    np.testing.assert_allclose(goals, np.tile([-0.1, 0.05, 0.1], (4, 1)), atol=1e-4)


def test_unknown_scenes_and_those_of_other_sources_get_the_action_0() -> None:
    state = np.zeros(len(STATE_NAMES))
    state[:3], state[3:6], state[6:9] = HOME, [0.1, 0.1, HEIGHT], [-0.1, 0.0, HEIGHT]
    images = np.stack([draw(state, level) for level in (60, 180, 250)])  # push, another source, unknown
    acting = policy(noise=0.5)
    acting.reset(["push"] * 3, [0, 1, 2])
    for _ in range(2):
        actions = acting.act(images)
        assert actions[0].any()
        assert not actions[1:].any()
    acting.reset(["push"], [0])
    assert not acting.act(images[2:]).any()


def test_a_copy_does_not_depend_on_the_others_nor_on_the_episode_before() -> None:
    rng = np.random.default_rng(0)
    frames = rng.uniform(-0.1, 0.1, (4, 3, len(STATE_NAMES)))
    images = np.array([[draw(state, 120) for state in row] for row in frames])
    together, alone = policy(noise=0.2), policy(noise=0.2)
    together.reset(["pick"] * 3, [5, 6, 7])
    expected = [together.act(each)[1] for each in images]
    for _ in range(2):
        alone.reset(["pick"], [6])
        np.testing.assert_allclose([alone.act(each[1:2])[0] for each in images], expected, atol=1e-6)


def recorded(task: str, seed: int, goal_height: float) -> tuple[str, Any, Any]:
    """An episode whose gripper moves as `DISPLACEMENT` says, from `HOME`."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-0.5, 0.5, (9, 4))
    states = np.zeros((9, len(STATE_NAMES)))
    states[:, :3] = HOME + np.concatenate([np.zeros((1, 3)), np.cumsum(actions[:-1, :3] @ DISPLACEMENT, 0)])
    states[:, 3:6], states[:, 6:9] = [*rng.uniform(-0.1, 0.1, 2), HEIGHT], [0, 0, goal_height]
    return task, states.astype(np.float32), actions.astype(np.float32)


def test_calibration_recovers_displacement_home_and_heights() -> None:
    pushing = [recorded("push", seed, HEIGHT) for seed in range(4)]
    picking = [recorded("pick_and_place", seed, 0.1 * seed) for seed in range(3)]
    found = calibrate([*pushing, *picking, recorded("place", 9, 0.3)])
    np.testing.assert_allclose(found.displacement, DISPLACEMENT, atol=1e-6)
    for task in found.tasks.values():
        np.testing.assert_allclose(task.home, HOME, atol=1e-6)
    assert found.tasks["push"].object_height == pytest.approx(HEIGHT)
    assert found.tasks["push"].goal_height == pytest.approx(HEIGHT)
    assert found.tasks["pick_and_place"].object_height == pytest.approx(HEIGHT)
    assert found.tasks["pick_and_place"].goal_height is None, "it varies"
    assert found.tasks["place"].goal_height is None, "one episode does not tell"
    with pytest.raises(ValueError, match="no episode"):
        calibrate([])


def test_calibration_is_the_least_squares_fit() -> None:
    # By hand: a unit of the first dimension moves the gripper by the mean of 2 and 4 cm.
    states, actions = np.zeros((3, len(STATE_NAMES)), np.float32), np.eye(3, 4, dtype=np.float32)
    actions[1] = actions[0]
    states[:, 0] = [0.0, 0.02, 0.06]
    np.testing.assert_allclose(calibrate([("push", states, actions)]).displacement[0], [0.03, 0, 0], atol=1e-7)


def test_the_gripper_is_corrected_by_a_fraction_of_the_difference() -> None:
    predicted, perceived = np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.2, 0.1])
    np.testing.assert_allclose(update_position(predicted, perceived, 0.0), predicted)
    np.testing.assert_allclose(update_position(predicted, perceived, 0.1), [0.11, 0.2, 0.28])
    np.testing.assert_allclose(update_position(predicted, perceived, 1.0), perceived)


POINTS = st.tuples(*[st.floats(-0.2, 0.2)] * 3).map(np.array)
FACTORS = st.floats(0.8, 1.25)


@given(POINTS, FACTORS)
def test_a_known_height_corrects_an_error_of_depth(point: Any, factor: float) -> None:
    perceived = CAMERA + (point - CAMERA) * factor
    np.testing.assert_allclose(move_to_height(perceived, CAMERA, point[2]), point, atol=1e-9)
    np.testing.assert_array_equal(move_to_height(perceived, CAMERA, None), perceived)


def test_a_level_ray_and_one_that_points_up_are_left_alone() -> None:
    for point in (np.array([0.0, 0.0, 0.59]), np.array([0.0, 0.0, 0.9])):
        np.testing.assert_array_equal(move_to_height(point, CAMERA, HEIGHT), point)
    below = np.array([0.0, 0.0, 0.1])
    np.testing.assert_array_equal(move_to_height(below, CAMERA, 0.7), below)


@given(POINTS, POINTS, FACTORS)
def test_the_nearest_point_on_a_ray_does_not_depend_on_the_perceived_depth(
    point: Any, target: Any, factor: float
) -> None:
    nearest = nearest_on_ray(point, CAMERA, target)
    np.testing.assert_allclose(nearest_on_ray(CAMERA + (point - CAMERA) * factor, CAMERA, target), nearest, atol=1e-9)
    assert np.linalg.norm(nearest - target) <= np.linalg.norm(point - target) + 1e-9
    np.testing.assert_allclose(nearest_on_ray(point, CAMERA, point), point, atol=1e-9)


def test_a_source_is_calibrated_by_its_train_episodes_in_its_own_units(toy_episodes: list[Episode]) -> None:
    corpus = Corpus.of(toy_episodes)
    found = calibrate_servoing(corpus, "toy")
    assert set(found.tasks) == {"push"}
    assert found.tasks["push"].object_height == pytest.approx(0.1)
    # A unit of action moves the toy's gripper by 8 % of the image, unless it is at the border.
    np.testing.assert_allclose(np.diag(found.displacement)[:2], 0.08, atol=0.02)
    train = [episode for episode in toy_episodes if episode.split == "train"]
    np.testing.assert_array_equal(calibrate_servoing(Corpus.of(train), "toy").displacement, found.displacement)


def test_a_source_without_states_or_controller_is_refused_in_one_line(
    toy_episodes: list[Episode], tmp_path: Path
) -> None:
    bare = [replace(episode, state=None, keypoints=None) for episode in toy_episodes]
    with pytest.raises(StageError, match="toy has no train episode with states"):
        calibrate_servoing(Corpus.of(bare), "toy")
    run = Run("policies", "", {}, (), (), tmp_path)
    parts = make_policy_parts(
        run, PoliciesSpec(), {}, Corpus.of(toy_episodes), {"toy": JacoSpec(kind="jaco")}, torch.device("cpu")
    )
    with pytest.raises(StageError, match=r"toy \(jaco\) has no scripted controller"):
        parts.servoing(VisualServoingSpec(kind="visual_servoing"), "toy")
