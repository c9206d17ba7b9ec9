from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.bench.build import Builder, build
from roboalign.bench.labels import label_recorded
from roboalign.bench.probed import (
    ProbeCalibration,
    TrueClip,
    calibrate_probe,
    explained_variance,
    label_probed,
    probed_change,
    shrink,
    with_distance,
)
from roboalign.bench.spec import GeneratedSpec
from roboalign.reward.rubric import calibrate
from roboalign.types import STATE_NAMES

SUCCESS = STATE_NAMES.index("success")


class NoisyProbe:
    """Reads the toy's picture as the recorded states that it was told of, with errors in every place it gives."""

    def __init__(self, episodes, deviation):
        self.known = {frame.tobytes(): state for e in episodes for frame, state in zip(e.frames, e.state, strict=True)}
        self.deviation = deviation
        self.looks = 0

    def __call__(self, source, task, frames):
        assert (source, task) == ("toy", "push")
        states = np.stack([[self.known[frame.tobytes()] for frame in clip] for clip in frames])
        self.looks += 1
        states[..., :6] += np.random.default_rng(self.looks).normal(0, self.deviation, states[..., :6].shape)
        return states.astype(np.float32)


def true_future(episodes):
    """A world model that always gives the true future."""
    known = {(e.frames[t].tobytes(), t): e.frames[t + 1 :] for e in episodes for t in range(len(e.frames))}

    def run(first, actions, masks, seeds):
        count = actions.shape[1]
        return np.stack([
            next(v[:count] for (frame, _), v in known.items() if frame == picture.tobytes() and len(v) >= count)
            for picture in first
        ])  # fmt: skip

    return run


@pytest.fixture
def generated(builder, toy_episodes, tmp_path):
    spec = builder.spec.model_copy(update={"generated": GeneratedSpec(frames=6, batch_size=3)})

    def run(deviation, reconstruct=None):
        probe = NoisyProbe(toy_episodes, deviation)
        own = Builder(builder.corpus, spec, builder.reward, builder.states, builder.limits, probe, (), reconstruct)
        pairs = build(own, {"final": true_future(toy_episodes)}, tmp_path / str(deviation), 10.0)["judge"]
        return own, [pair for pair in pairs if pair.origin == "generated"]

    return run


def exact(builder, pair):
    state = builder.states[pair.episode][pair.start : pair.stop]
    return label_recorded(builder.reward, state, builder.limits["toy"]).scores


def test_a_probe_without_errors_gives_the_rubrics_own_scores(generated):
    own, pairs = generated(0.0)
    assert pairs
    for pair in pairs:
        assert pair.provenance == "rubric_probed"
        assert pair.scores == pytest.approx(exact(own, pair), abs=1e-3)
    # Toy pictures are coarse: the same one is seen for places that differ by less than a pixel.
    assert (own.sights["toy"].slack < 0.2).all()


@pytest.mark.parametrize("reconstruct", [None, np.copy], ids=["states", "reconstructions"])
@pytest.mark.parametrize("deviation", [0.005, 0.02])
def test_the_probes_own_errors_cost_hardly_any_marks(generated, deviation, reconstruct):
    own, pairs = generated(deviation, reconstruct)
    lost = np.array([exact(own, pair) - np.array(pair.scores) for pair in pairs])
    assert (np.abs(lost).sum(1) < 0.5).mean() > 0.9
    assert np.abs(lost.sum(1)).mean() < 0.2


def test_what_a_clip_gets_wrong_still_costs(six, toy_episodes, limits):
    expert = next(e for e in toy_episodes if e.success)
    rng = np.random.default_rng(0)

    def look(state):
        return (state + np.pad(rng.normal(0, 0.005, (len(state), 6)), ((0, 0), (0, 8)))).astype(np.float32)

    clips = [TrueClip("push", look(e.state), look(e.state), e.state, bool(e.success)) for e in toy_episodes]
    own = calibrate_probe(six, clips, [], limits, 0.9)
    still = np.repeat(expert.state[:1], len(expert.state), 0)

    def label(shown):
        change = probed_change(six, look(shown), look(expert.state), own)
        return label_probed(six, shrink(change, own.slack, np.array(six.max_scores)), expert.state, limits)

    (good, faithful), (bad, unfaithful) = label(expert.state), label(still)
    assert good.sum() > 9.5
    assert bad.sum() < 6
    assert bad[1] < 0.5
    assert faithful.sum() > 9.5
    assert unfaithful[1] < 0.5


def test_a_success_that_the_actions_did_not_bring_counts_as_seen_and_costs_consistency(six, toy_episodes, limits):
    expert = next(e for e in toy_episodes if e.success)
    lazy = expert.state.copy()
    lazy[:, :6] = lazy[0, :6]
    lazy[:, SUCCESS] = 0
    clear = ProbeCalibration(limits, np.zeros(6), 1, 1.0)
    label, faithful = label_probed(six, probed_change(six, expert.state, lazy, clear), lazy, limits)
    truth = label_recorded(six, lazy, limits).scores
    assert label[1] == 2 > truth[1]
    assert label[2] == 0
    assert (label <= np.array(six.max_scores)).all()
    assert faithful[1] < six.max_scores[1]
    assert (faithful <= np.array(six.max_scores)).all()


def test_limits_are_never_stricter_than_for_recorded_states(six, toy_episodes, limits):
    calm = [TrueClip("push", e.state[:2], None, e.state[:2], True) for e in toy_episodes[:2]]
    own = calibrate_probe(six, calm, [], limits, 0.9)
    for name in type(limits).__slots__:
        assert getattr(own.limits, name) >= getattr(limits, name)
    with pytest.raises(ValueError, match="without recorded states"):
        calibrate_probe(six, [], [], limits, 0.9)


def test_a_probe_that_always_says_the_same_is_not_asked(builder, toy_episodes, models, tmp_path):
    mean = np.mean([e.state.mean(0) for e in toy_episodes], 0)

    def blind(source, task, frames):
        return np.broadcast_to(mean, (*frames.shape[:2], 14)).astype(np.float32)

    own = Builder(builder.corpus, builder.spec, builder.reward, builder.states, builder.limits, blind)
    assert own.looks["toy"].share < 0.2
    assert own.sights == {}
    made = [p for p in build(own, models, tmp_path / "g", 10.0)["judge"] if p.origin == "generated"]
    assert {pair.provenance for pair in made} == {"distance_rule"}


def test_the_share_of_the_variance_by_example(toy_episodes):
    clips = [TrueClip("push", e.state, None, e.state, True) for e in toy_episodes]
    assert explained_variance(clips) == 1
    far = [replace(clip, seen=clip.state + 5) for clip in clips]
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
    label = with_distance(six, GeneratedSpec(), probed, distant, ProbeCalibration(limits, slack, 1, 1.0))
    assert label == pytest.approx([3, 0.8, 1, 0.4, 0.4, 0.8])


def test_without_validation_episodes_the_slack_comes_from_training(builder, toy_episodes):
    train = builder.corpus.where(split="train")
    probe = NoisyProbe(toy_episodes, 0.01)
    spec = builder.spec.model_copy(update={"generated": GeneratedSpec(frames=6)})
    both = Builder(builder.corpus, spec, builder.reward, builder.states, builder.limits, probe)
    alone = replace(both, corpus=train)
    assert alone.sights["toy"].clips > both.sights["toy"].clips > 0


@pytest.fixture
def limits(builder, toy_episodes):
    return calibrate(
        [(e.state, bool(e.success)) for e in toy_episodes if e.split == "train"], builder.reward.calibration
    )
