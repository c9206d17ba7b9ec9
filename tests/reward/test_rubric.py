from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from roboalign.reward.rubric import (
    Limits,
    Trajectory,
    calibrate,
    faithful_score,
    from_change,
    limits_from_json,
    limits_to_json,
    score,
)

NAMES = (
    "instruction_following",
    "manipulation_success",
    "action_outcome_consistency",
    "temporal_consistency",
    "contact_realism",
    "physics_adherence",
)
NORMAL = Limits(
    gripper_speed=0.03, object_speed=0.03, penetration=0.005, force=20, near=0.03, untouched=0.1, path_floor=0.02
)


def scores(six, shown, reference, limits=NORMAL):
    return dict(zip(NAMES, score(six, shown, reference, limits), strict=True))


def test_a_successful_push_has_full_marks(six, push):
    assert sum(scores(six, push, push).values()) == pytest.approx(10)


def test_toy_experts_have_full_marks_and_wanderers_do_not(six, limits, toy_episodes):
    for episode in toy_episodes:
        result = scores(six, episode.state, episode.state, limits)
        if episode.success:
            assert sum(result.values()) == pytest.approx(10, abs=0.01), episode.id
        else:
            assert result["manipulation_success"] <= 1
        assert result["action_outcome_consistency"] == 1


def test_never_moving_fails_the_task_and_breaks_no_law(six, push):
    still = np.repeat(push[:1], 16, axis=0)
    result = scores(six, still, still)
    assert result["instruction_following"] == result["manipulation_success"] == 0
    assert result["physics_adherence"] == 2
    assert result["temporal_consistency"] == result["contact_realism"] == 1


def test_half_way_earns_part(six, push):
    result = scores(six, push[:11], push[:11])
    assert 0 < result["manipulation_success"] < 1
    assert 1 < result["instruction_following"] < 3


def test_a_frozen_clip_of_a_moving_truth_loses_consistency(six, push):
    frozen = push[np.minimum(np.arange(16), 4)]
    result = scores(six, frozen, push)
    assert result["action_outcome_consistency"] < 0.7
    assert result["temporal_consistency"] < 0.8
    assert result["physics_adherence"] == 2


def test_an_early_end_is_held(six, push):
    assert scores(six, push[:6], push)["action_outcome_consistency"] < 1
    assert scores(six, push[:6], push)["temporal_consistency"] == 1


def test_jumps_lose_temporal_consistency_and_physics(six, push):
    order = np.r_[0, 14, 2, 12, 4, 10, 6, 8, 1, 13, 3, 11, 5, 9, 7, 15]
    result = scores(six, push[order], push)
    assert result["temporal_consistency"] == 0
    assert result["physics_adherence"] < 2


def test_an_object_that_moves_untouched_loses_contact_realism_only(six, push):
    ghost = push.copy()
    ghost[:, 10:12] = 0
    ghost[:, 1] += 0.5  # the gripper stays away
    ordinary, haunted = scores(six, push, push), scores(six, ghost, ghost)
    assert haunted["contact_realism"] < 0.3
    assert haunted["physics_adherence"] == ordinary["physics_adherence"]


def test_a_touch_between_two_frames_is_believed_when_the_gripper_is_near(six, push):
    unseen = push.copy()
    unseen[:, 10:12] = 0
    assert scores(six, unseen, unseen)["contact_realism"] == 1


def test_a_falling_object_needs_no_touch(six, push):
    fall = np.repeat(push[:1], 16, axis=0)
    fall[:, 5] = np.linspace(0.3, 0.0, 16)
    assert scores(six, fall, fall)["contact_realism"] == 1


def test_penetration_and_force_beyond_the_limits_cost(six, push):
    deep, hard = push.copy(), push.copy()
    deep[8, 12] = 0.02
    hard[8, 11] = 80
    assert scores(six, deep, deep)["physics_adherence"] == pytest.approx(1)
    assert scores(six, hard, hard)["contact_realism"] == pytest.approx(0.7)
    lenient = replace(NORMAL, penetration=0.05, force=100)
    assert sum(scores(six, deep, deep, lenient).values()) == pytest.approx(10)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (7, 14), elements=st.floats(-2, 2, width=32)), st.integers(1, 7))
def test_scores_stay_in_range(six, state, length):
    result = score(six, state[:length], state, NORMAL)
    assert (result >= 0).all()
    assert (result <= np.array(six.max_scores) + 1e-9).all()


def test_limits_come_from_experts_but_speeds_from_all(six, push):
    wild = push.copy()
    wild[:, 0:6] *= 3
    wild[:, 12] = 0.5
    quiet = calibrate([(push, True)], six.calibration)
    both = calibrate([(push, True), (wild, False)], six.calibration)
    assert both.gripper_speed == pytest.approx(3 * quiet.gripper_speed, rel=1e-3)
    assert both.penetration == quiet.penetration == six.calibration.penetration_floor_m
    assert limits_from_json(limits_to_json({"a": both})) == {"a": both}


def test_bad_states_are_refused(six, push):
    with pytest.raises(ValueError, match="without recorded states"):
        calibrate([], six.calibration)
    with pytest.raises(ValueError, match="T > 0"):
        Trajectory.of(push[:0])
    push[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        Trajectory.of(push)


def test_an_object_that_vanishes_for_good_loses_the_task_and_its_laws(six, push):
    gone = push.copy()
    gone[8:, 3:6], gone[8:, 10:12], gone[8:, 13] = np.nan, 0, 0
    whole, part = scores(six, push, push), scores(six, gone, push)
    assert part["manipulation_success"] == 0
    assert part["physics_adherence"] == pytest.approx(0.5)
    assert part["temporal_consistency"] == pytest.approx(0.75)
    assert part["action_outcome_consistency"] <= 0.55
    assert part["instruction_following"] < 2
    assert part["contact_realism"] == whole["contact_realism"]


def test_an_object_that_blinks_keeps_the_task_and_loses_half_of_physics(six, push):
    blink = push.copy()
    blink[8:9, 3:6] = np.nan
    result = scores(six, blink, push)
    assert result["manipulation_success"] == 2
    assert 0.9 < result["physics_adherence"] < 1
    assert result["temporal_consistency"] == pytest.approx(0.5)


def test_longer_absence_is_never_better(six, push):
    totals = []
    for first in range(1, 16):
        gone = push.copy()
        gone[first:, 3:6], gone[first:, 13] = np.nan, 0
        totals.append(sum(scores(six, gone, push).values()))
    assert totals == sorted(totals)


@pytest.mark.parametrize("damage", ["part of a place", "first frame", "gripper", "infinity"])
def test_only_whole_places_of_objects_may_be_unknown(six, push, damage):
    match damage:
        case "part of a place":
            push[5, 3] = np.nan
        case "first frame":
            push[0, 3:6] = np.nan
        case "gripper":
            push[5, 0:3] = np.nan
        case "infinity":
            push[5, 3:6] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity"):
        Trajectory.of(push)


def test_the_truth_is_faithful_whatever_it_is(six, push, limits):
    still = np.repeat(push[:1], len(push), 0)
    for state in (push, still):
        assert faithful_score(six, state, state, limits).tolist() == list(six.max_scores)


def test_hallucinated_and_missed_success_both_cost_faithfulness(six, push, limits):
    failure = push.copy()
    failure[:, 3:6] = failure[0, 3:6]
    failure[:, 9:14] = 0
    place = six.names.index("manipulation_success")
    hallucinated, missed = (faithful_score(six, a, b, limits) for a, b in ((push, failure), (failure, push)))
    assert score(six, push, failure, limits)[place] > score(six, failure, failure, limits)[place]
    assert hallucinated[place] < 0.5 * six.max_scores[place]
    assert missed[place] < 0.5 * six.max_scores[place]


def test_a_change_costs_the_same_in_either_direction(six):
    maxima, change = np.array(six.max_scores), np.array([1.0, -1.0, 0.0, 0.5, -0.5, 5.0])
    assert from_change(six, change).tolist() == [2, 1, 1, 0.5, 0.5, 0]
    assert (from_change(six, change) == from_change(six, -change)).all()
    assert (from_change(six, 0 * maxima) == maxima).all()
