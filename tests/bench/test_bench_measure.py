from dataclasses import replace
from pathlib import Path

import pytest

from roboalign.bench.build import build
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.labels import RecordedStates
from roboalign.bench.measure import (
    DegradationEffect,
    DegradationExample,
    degradation_effects,
    effects_table,
    measure,
    measure_effects,
    pairwise_auc,
    rubric_metrics,
)
from roboalign.metrics.statistics import Interval
from roboalign.store import Corpus
from tests.conftest import toy_episode


def test_metrics_count_everything_once(labeller, models, six, tmp_path):
    pairs = build({"judge": labeller}, models, tmp_path / "generated", 10.0)["judge"]
    metrics = measure(labeller, pairs, degradation_effects(labeller))
    assert metrics["different"] == len({pair.id for pair in pairs}) > 60
    assert metrics["hidden_labels"] == metrics["by_degradation"]["swapped_actions"]
    assert metrics["effects"]["shuffle"]["temporal_consistency"]["holds"]
    assert metrics["pairs"] == 80 == sum(metrics["by_origin"].values())
    assert sum(metrics["by_degradation"].values()) == metrics["by_origin"]["degraded"]
    for name in six.names:
        assert sum(metrics["dimensions"][name]["histogram"]) == 80
    assert metrics["rubric"]["toy"]["expert_total"] == pytest.approx(10, abs=0.02)
    assert metrics["rubric"]["toy"]["manipulation_auc"] == 1
    assert metrics["rubric"]["toy"]["failure_total"] < 8


def test_without_states_there_are_no_effects(six, small):
    corpus = Corpus.of([replace(toy_episode(n), policy="unknown", state=None) for n in range(6)])
    labeller = PairLabeller.of(corpus, small, six)
    pairs = build({"judge": labeller}, {}, Path("unused"), 10.0)["judge"]
    assert measure(labeller, pairs, degradation_effects(labeller))["effects"] == {}


def test_ties_count_one_half():
    assert pairwise_auc([1, 2], [0, 1]) == 0.875


def test_effects_tell_what_falls_and_what_should_not(labeller, toy_episodes, small, six):
    examples = [DegradationExample("toy", "push", RecordedStates(e.state, e.keypoints)) for e in toy_episodes]
    found = {(e.degradation, e.dimension): e for e in measure_effects(small, six, examples, labeller.limits)}
    assert found["shuffle", "temporal_consistency"].holds
    assert found["swapped_actions", "action_outcome_consistency"].change.mean < -0.3
    assert found["swapped_actions", "temporal_consistency"].change.mean == 0
    assert not found["blur", "physics_adherence"].measured
    assert ("object_teleported", "physics_adherence") not in found  # the toy determines no camera
    assert {e.change.n for e in found.values()} == {len(toy_episodes)}


@pytest.mark.parametrize(
    ("declared", "mean", "high", "holds"),
    [(True, -0.2, -0.1, True), (True, -0.2, 0.01, False), (False, -0.02, 0.0, True), (False, -0.2, -0.1, False)],
)
def test_an_effect_holds_by_its_interval_or_its_tolerance(declared, mean, high, holds):
    change = Interval(mean, mean - 0.05, high, 9)
    effect = DegradationEffect("freeze", "physics", change, declared, 0.03, True)
    assert effect.holds == holds
    _, rows = effects_table([effect], ["physics"])
    assert ("✓" in rows[0][3]) == holds


def test_a_change_that_nobody_allowed_is_reported(labeller, toy_episodes, small, six):
    strict = small.model_copy(update={"degradations": tuple(
        d.model_copy(update={"lowers": {"instruction_following": 0.1}, "may_lower": {}}) for d in small.degradations
    )})  # fmt: skip
    examples = [DegradationExample("toy", "push", RecordedStates(e.state, e.keypoints)) for e in toy_episodes]
    found = {(e.degradation, e.dimension): e for e in measure_effects(strict, six, examples, labeller.limits)}
    assert not found["shuffle", "temporal_consistency"].holds


def test_the_rubric_is_measured_with_and_without_the_verdict(labeller, toy_episodes, six):
    rows = [(e.state, e.policy == "expert") for e in toy_episodes]
    values = rubric_metrics(six, rows, labeller.limits["toy"])
    assert values["manipulation_auc"] == 1
    assert 0.9 < values["manipulation_auc_without_verdict"] <= 1
    assert values["experts"] == sum(e.policy == "expert" for e in toy_episodes)
    assert values["expert_total"] > values["failure_total"]
