import numpy as np
import pytest

from roboalign.bench.labels import distance, label_degraded, label_generated, label_recorded, lower, rearranged_state
from roboalign.bench.spec import BenchSpec, GeneratedSpec

DEGRADATIONS = {degradation.kind: degradation for degradation in BenchSpec().degradations}


@pytest.fixture
def expert(toy_episodes):
    return next(e for e in toy_episodes if e.success)


@pytest.fixture
def limits(builder):
    return builder.limits["toy"]


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_degradation_lowers_what_it_declares_and_nothing_else(kind, six, expert, limits, toy_episodes):
    other = next(e for e in toy_episodes if not e.success).state
    degradation = DEGRADATIONS[kind]
    before, _ = label_recorded(six, expert.state, limits)
    after, provenance = label_degraded(six, degradation, 0.9, 3, expert.state, limits, other)
    declared = np.array([d.labeller.kind in degradation.lowers for d in six.dimensions])
    assert (after <= before).all()
    assert (after[~declared] == before[~declared]).all()
    assert after.sum() < before.sum() - 0.1
    assert provenance in ("rubric_rearranged", "rubric_declared")


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_without_states_full_marks_fall_as_declared(kind, six):
    scores, provenance = label_degraded(six, DEGRADATIONS[kind], 0.5, 0, None, None)
    losses = np.array([DEGRADATIONS[kind].lowers.get(d.labeller.kind, 0.0) for d in six.dimensions])
    assert scores == pytest.approx(np.array(six.maxima) * (1 - 0.5 * losses))
    assert provenance == "full_marks_declared"


def test_worse_is_never_better(six, expert, limits):
    for kind in ("blur", "noise", "flicker", "premature_end"):
        totals = [
            label_degraded(six, DEGRADATIONS[kind], severity, 0, expert.state, limits)[0].sum()
            for severity in (0.2, 0.5, 1.0)
        ]
        assert totals == sorted(totals, reverse=True), kind


def test_a_foreign_frame_never_shows_success(expert):
    order = np.r_[np.arange(6), 12 + np.arange(6, 12)]
    shown = rearranged_state(expert.state, order, expert.state)
    assert (shown[6:, -1] == 0).all()
    with pytest.raises(ValueError, match="other clip"):
        rearranged_state(expert.state, order, None)


def test_scores_never_fall_below_zero(six):
    assert (lower(np.zeros(6), six, DEGRADATIONS["flicker"].lowers, 1.0) == 0).all()


def test_generated_clips_lose_with_their_distance(six, expert, limits):
    rule = GeneratedSpec()
    frames = expert.frames
    assert distance(frames, frames, rule.floor) == 0
    still = np.repeat(frames[:1], len(frames), 0)
    assert distance(still, frames, rule.floor) == pytest.approx(1, abs=0.05)
    assert distance(255 - frames, frames, rule.floor) == 1
    totals = [label_generated(six, rule, far, expert.state, limits)[0].sum() for far in (0.0, 0.5, 1.0)]
    assert totals[0] == pytest.approx(10, abs=0.01)
    assert totals == sorted(totals, reverse=True)
