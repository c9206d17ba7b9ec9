from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.bench.labels import (
    SUCCESS,
    ProbeCalibration,
    ProbedClip,
    RecordedStates,
    calibrate_probe,
    combine_with_distance,
    displace_object,
    distance_from_truth,
    explained_variance,
    label_by_distance,
    label_by_probe,
    label_degraded,
    label_group_rollout,
    label_recorded,
    outcome_of_other,
    probed_change,
    rearrange_states,
    remove_object,
    shrink,
    subtract_losses,
)
from roboalign.bench.spec import BenchSpec, GeneratedSpec


def project(camera, points):
    image = np.hstack([points, np.ones((len(points), 1))]) @ camera.T
    return image[:, :2] / image[:, 2:]


@pytest.fixture
def toy_camera():
    """Looks at the toy's table, 0.1 metres high, from a metre below: there it shows x and y as they are."""
    return np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0.9]])


DEGRADATIONS = {degradation.kind: degradation for degradation in BenchSpec().degradations}


@pytest.fixture
def expert(toy_episodes):
    return next(e for e in toy_episodes if e.success)


@pytest.fixture
def limits(labeller):
    return labeller.limits["toy"]


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_degradation_lowers_what_it_declares_and_nothing_else(kind, six, expert, limits, toy_episodes, toy_camera):
    other = next(e for e in toy_episodes if not e.success).state
    track = RecordedStates(expert.state, expert.keypoints, toy_camera, other)
    degradation = DEGRADATIONS[kind]
    before = label_recorded(six, expert.state, limits).scores
    label = label_degraded(six, degradation, 0.9, 3, track, limits)
    after = label.scores
    lowered = {*degradation.lowers, *degradation.may_lower}
    declared = np.array([d.labeller.kind in lowered for d in six.dimensions.values()])
    assert (after <= before).all()
    assert (after[~declared] == before[~declared]).all()
    assert after.sum() < before.sum() - 0.1
    by_states = {
        "swapped_actions": "rubric_swapped",
        "object_removed": "rubric_moved",
        "object_teleported": "rubric_moved",
    }
    by_rule = dict.fromkeys(("blur", "noise", "flicker", "swapped_instruction"), "rubric_declared")
    assert label.provenance == (by_states | by_rule).get(kind, "rubric_rearranged")


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_without_states_full_marks_fall_as_declared(kind, six):
    label = label_degraded(six, DEGRADATIONS[kind], 0.5, 0, RecordedStates(), None)
    losses = np.array([DEGRADATIONS[kind].lowers.get(d.labeller.kind, 0.0) for d in six.dimensions.values()])
    assert label.scores == pytest.approx(np.array(six.max_scores) * (1 - 0.5 * losses))
    assert label.provenance == "full_marks_declared"


def test_worse_is_never_better(six, expert, limits):
    for kind in ("blur", "noise", "flicker", "premature_end", "object_removed"):
        totals = [
            label_degraded(six, DEGRADATIONS[kind], severity, 0, RecordedStates(expert.state), limits).scores.sum()
            for severity in (0.2, 0.5, 1.0)
        ]
        assert totals == sorted(totals, reverse=True), kind


def test_a_foreign_frame_never_shows_success(expert):
    order = np.r_[np.arange(6), 12 + np.arange(6, 12)]
    shown = rearrange_states(expert.state, order, expert.state)
    assert (shown[6:, -1] == 0).all()
    with pytest.raises(ValueError, match="other clip"):
        rearrange_states(expert.state, order, None)


def test_a_displaced_object_is_seen_where_it_was_pasted(expert, toy_camera):
    state = expert.state.copy()
    offset = np.array([0.1, -0.05], np.float32)
    assert np.allclose(project(toy_camera, state[:, 3:6]), expert.keypoints[:, 2:4], atol=1e-5)
    shown = displace_object(state, slice(4, 9), offset, toy_camera)
    before, after = (project(toy_camera, s[:, 3:6]) for s in (state, shown))
    assert np.allclose(after[4:9] - before[4:9], offset, atol=1e-4)
    assert np.array_equal(shown[:4], state[:4])
    assert np.array_equal(shown[9:], state[9:])
    assert (shown[4:9, 10:12] == 0).all()
    assert (shown[4:9, 13] == 0).all()


def test_an_object_that_is_gone_has_no_place(expert):
    shown = remove_object(expert.state, slice(3, 6))
    assert np.isnan(shown[3:6, 3:6]).all()
    assert np.isfinite(np.delete(shown, slice(3, 6), axis=1)).all()
    assert np.isfinite(expert.state).all()


def test_other_actions_start_from_here_and_move_as_there(toy_episodes):
    here, there = toy_episodes[0].state, toy_episodes[1].state
    outcome = outcome_of_other(here, there)
    assert np.allclose(outcome[0], here[0], atol=1e-6)
    assert np.allclose(np.diff(outcome[:, 0:6], axis=0), np.diff(there[:, 0:6], axis=0), atol=1e-6)


def test_scores_never_fall_below_zero(six):
    assert (subtract_losses(np.zeros(6), six, DEGRADATIONS["flicker"].lowers, 1.0) == 0).all()


def test_generated_clips_lose_with_their_distance(six, expert, limits):
    rule = GeneratedSpec()
    frames = expert.frames
    assert distance_from_truth(frames, frames, rule.distance_eps) == 0
    still = np.repeat(frames[:1], len(frames), 0)
    assert distance_from_truth(still, frames, rule.distance_eps) == pytest.approx(1, abs=0.05)
    assert distance_from_truth(255 - frames, frames, rule.distance_eps) == 1
    totals = [label_by_distance(six, rule, far, expert.state, limits).scores.sum() for far in (0.0, 0.5, 1.0)]
    assert totals[0] == pytest.approx(10, abs=0.01)
    assert totals == sorted(totals, reverse=True)


def test_a_recorded_clip_is_wholly_faithful_whatever_it_shows(six, toy_episodes, limits):
    for state in (toy_episodes[0].state, toy_episodes[1].state, None):
        assert label_recorded(six, state, limits).faithful.tolist() == list(six.max_scores)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_only_a_swapped_instruction_leaves_a_spoilt_clip_faithful(kind, six, expert, limits, toy_episodes, toy_camera):
    other = next(e for e in toy_episodes if not e.success).state
    track = RecordedStates(expert.state, expert.keypoints, toy_camera, other)
    for records, own in ((track, limits), (RecordedStates(), None)):
        faithful = label_degraded(six, DEGRADATIONS[kind], 0.9, 3, records, own).faithful
        assert (faithful <= np.array(six.max_scores)).all()
        assert (faithful.sum() == six.max_total) == (kind == "swapped_instruction")


def test_a_success_by_other_actions_shows_all_but_is_not_faithful(six, toy_episodes, limits, expert):
    """The video shows a success; its actions would have led elsewhere."""
    other = next(e for e in toy_episodes if not e.success).state
    before = label_recorded(six, expert.state, limits)
    label = label_degraded(
        six, DEGRADATIONS["swapped_actions"], 1.0, 0, RecordedStates(expert.state, other_state=other), limits
    )
    place = six.names.index("manipulation_success")
    assert label.scores[place] == before.scores[place]
    assert label.faithful[place] < six.max_scores[place]


def test_generated_clips_lose_faithfulness_with_their_distance(six, expert, limits):
    near, far = (label_by_distance(six, GeneratedSpec(), x, expert.state, limits).faithful for x in (0.0, 1.0))
    assert near.tolist() == list(six.max_scores)
    assert (far <= near).all()
    assert far.sum() < near.sum()


def test_what_a_clip_gets_wrong_still_costs(six, toy_episodes, limits):
    expert = next(e for e in toy_episodes if e.success)
    rng = np.random.default_rng(0)

    def look(state):
        return (state + np.pad(rng.normal(0, 0.005, (len(state), 6)), ((0, 0), (0, 8)))).astype(np.float32)

    clips = [ProbedClip("push", look(e.state), look(e.state), e.state, bool(e.success)) for e in toy_episodes]
    own = calibrate_probe(six, clips, [], limits, 0.9)
    still = np.repeat(expert.state[:1], len(expert.state), 0)

    def label(shown):
        change = probed_change(six, look(shown), look(expert.state), own)
        by_distance = label_by_distance(six, GeneratedSpec(), 0.0, expert.state, limits)
        return label_by_probe(six, GeneratedSpec(), change, expert.state, limits, own, by_distance)

    good, bad = label(expert.state), label(still)
    assert good.scores.sum() > 9.5
    assert bad.scores.sum() < 6
    assert bad.scores[1] < 0.5
    assert good.faithful.sum() > 9.5
    assert bad.faithful[1] < 0.5


def test_a_success_that_the_actions_did_not_bring_counts_as_seen_and_costs_consistency(six, toy_episodes, limits):
    expert = next(e for e in toy_episodes if e.success)
    lazy = expert.state.copy()
    lazy[:, :6] = lazy[0, :6]
    lazy[:, SUCCESS] = 0
    clear = ProbeCalibration(limits, np.zeros(6), 1, 1.0)
    label = label_group_rollout(six, probed_change(six, expert.state, lazy, clear), lazy, limits)
    truth = label_recorded(six, lazy, limits).scores
    assert label.scores[1] == 2 > truth[1]
    assert label.scores[2] == 0
    assert (label.scores <= np.array(six.max_scores)).all()
    assert label.faithful[1] < six.max_scores[1]
    assert (label.faithful <= np.array(six.max_scores)).all()


def test_limits_are_never_stricter_than_for_recorded_states(six, toy_episodes, limits):
    calm = [ProbedClip("push", e.state[:2], None, e.state[:2], True) for e in toy_episodes[:2]]
    own = calibrate_probe(six, calm, [], limits, 0.9)
    for name in type(limits).__slots__:
        assert getattr(own.limits, name) >= getattr(limits, name)
    with pytest.raises(ValueError, match="without recorded states"):
        calibrate_probe(six, [], [], limits, 0.9)


def test_the_share_of_the_variance_by_example(toy_episodes):
    clips = [ProbedClip("push", e.state, None, e.state, True) for e in toy_episodes]
    assert explained_variance(clips) == 1
    far = [replace(clip, probed=clip.state + 5) for clip in clips]
    assert explained_variance(far) < 0


def test_a_difference_counts_beyond_the_slack_and_a_whole_one_wholly():
    values, slack, maxima = np.array([-2.0, -0.5, 0.0, 0.1, 1.25]), np.full(5, 0.5), np.full(5, 2.0)
    assert shrink(values, slack, maxima) == pytest.approx([-2, 0, 0, 0, 1])
    assert shrink(values, np.full(5, 2.5), maxima).tolist() == [0] * 5


@settings(max_examples=60, deadline=None)
@given(st.floats(-3, 3), st.floats(0, 4))
def test_shrinking_never_changes_sides_or_grows(value, slack):
    shrunk = float(shrink(np.array([value]), np.array([slack]), np.array([3.0]))[0])
    assert shrunk * value >= 0
    assert abs(shrunk) <= abs(value) + 1e-9


def test_the_distance_tells_what_the_probe_cannot(six, limits):
    probed, distant = np.array(six.max_scores), 0.4 * np.array(six.max_scores)
    slack = np.array([0.0, 1.9, 0.0, 0.0, 0.0, 0.0])
    label = combine_with_distance(six, GeneratedSpec(), probed, distant, ProbeCalibration(limits, slack, 1, 1.0))
    assert label == pytest.approx([3, 0.8, 1, 0.4, 0.4, 0.8])
