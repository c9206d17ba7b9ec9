"""The metrics of policies from results that are known by construction."""

from typing import Any

import numpy as np
import pytest

from roboalign.policies.outputs import episode_rows, rate_rows
from roboalign.policies.results import OTHER_FRAMES, PolicyMetrics, PolicyResults, WorldResult, replay_of
from roboalign.policies.spec import PoliciesSpec
from roboalign.types import Float32

EPISODES, HORIZON = 10, 4


def outcome(successes: int, *, from_frame: int = HORIZON - 1, missed: int = 0) -> Float32:
    """(E, T): `successes` episodes succeed from `from_frame` on, of which the first `missed` do not show it."""
    table = np.zeros((EPISODES, HORIZON), np.float32)
    table[missed:successes, from_frame:] = 1
    return table


@pytest.fixture(scope="module")
def results() -> PolicyResults:
    """Four policies that succeed in 8, 6, 4 and 0 of 10 episodes. The supervised model misses two of each; the aligned
    one shows one success too many."""
    spec = PoliciesSpec.model_validate(
        {
            "policies": {
                "expert": {"kind": "scripted"},
                "noisy": {"kind": "scripted", "noise": 0.3},
                "flat": {"kind": "constant"},
                "shaky": {"kind": "random"},
            },
            "horizon": HORIZON,
            "horizons": [2],
            "draws": 200,
        }
    )
    made = PolicyResults(spec, {"toy": [f"toy/{number:06d}" for number in range(EPISODES)]})
    for policy, successes in zip(spec.policies, (8, 6, 4, 0), strict=True):
        scores = {"student": np.full(EPISODES, successes / 10, np.float32)}
        made.add("simulator", policy, "toy", WorldResult(outcome(successes)))
        made.add(
            "supervised",
            policy,
            "toy",
            WorldResult(outcome(successes, missed=2), np.float32(0.1) * (1 - outcome(successes)), scores),
        )
        made.add(
            "aligned",
            policy,
            "toy",
            WorldResult(outcome(successes + 1), np.float32(0.1) * (1 - outcome(successes)), scores),
        )
        made.add(OTHER_FRAMES, policy, "toy", WorldResult(outcome(10 - successes)))
        for model in ("supervised", "aligned"):
            made.add(replay_of(model), policy, "toy", made.worlds[model][policy]["toy"])
    made.cloning_error = {"flat": {"toy": 0.2}, "shaky": {"toy": 0.5}}
    return made


@pytest.fixture(scope="module")
def metrics(results: PolicyResults) -> Any:
    return PolicyMetrics(results).json()


def test_success_has_wilson_intervals_and_scripted_policies_are_open_loop(metrics: Any) -> None:
    expert = metrics["policies"]["expert"]
    assert expert["open_loop"] is True
    assert metrics["policies"]["flat"]["open_loop"] is False
    assert expert["simulator"]["mean"] == 0.8
    assert (round(expert["simulator"]["low"], 2), round(expert["simulator"]["high"], 2)) == (0.49, 0.94)
    assert expert["supervised"]["by_source"]["toy"]["mean"] == pytest.approx(0.6)


def test_agreement_by_model_source_horizon_and_judge(metrics: Any) -> None:
    assert metrics["agreement"]["aligned"]["pooled"]["pearson"]["mean"] == pytest.approx(1)
    assert metrics["agreement"]["aligned"]["by_source"]["toy"]["mmrv"]["mean"] == 0
    assert metrics["agreement"]["supervised"]["closed_loop"]["pearson"]["n"] == 2
    assert "pearson" not in metrics["by_horizon"]["2"]["aligned"]  # nothing has succeeded by then
    assert set(metrics["by_judge"]) == {"probe", "probe_any", "probability", "distance", "student"}
    assert metrics["by_judge"]["student"]["supervised"]["spearman"]["mean"] == pytest.approx(1)
    assert metrics["by_judge"]["distance"]["supervised"]["mmrv"]["mean"] == 0  # not misled by what the probe misses
    assert set(metrics["by_decoding"]) == {"swr"}


def test_what_alignment_changes_in_the_agreement_by_each_judge(metrics: Any) -> None:
    change, pooled = metrics["agreement_difference"], metrics["agreement"]
    assert set(change) == set(metrics["by_judge"])
    before, after = (pooled[model]["pooled"]["pearson"]["mean"] for model in ("supervised", "aligned"))
    assert change["probe"]["pearson"]["mean"] == pytest.approx(after - before)
    assert change["distance"]["mmrv"]["mean"] == 0


def test_baselines(metrics: Any) -> None:
    assert metrics["baselines"]["cloning_error"]["pearson"]["mean"] == pytest.approx(1)
    assert metrics["baselines"][OTHER_FRAMES]["pearson"]["mean"] == pytest.approx(-1)
    assert abs(metrics["baselines"]["random_judge"]["pearson"]["mean"]) < 0.2


def test_optimism_and_its_gate(metrics: Any) -> None:
    optimism = metrics["optimism"]
    # Of 40 sequences 18 succeed and 22 fail. The supervised model misses 2 of each policy that succeeds.
    assert optimism["supervised"]["false_success"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 22}
    assert optimism["supervised"]["missed_success"]["mean"] == pytest.approx(6 / 18)
    assert optimism["aligned"]["false_success"]["mean"] == pytest.approx(4 / 22)
    assert optimism["difference"]["false_success"]["mean"] == pytest.approx(4 / 22)
    assert optimism["difference"]["missed_success"]["mean"] == pytest.approx(-6 / 18)
    gate = metrics["gates"]["false_success"]
    assert gate["passed"] == (optimism["difference"]["false_success"]["low"] <= 0)
    assert gate["figures"] == optimism["difference"]["false_success"]


def test_the_gate_fails_if_every_scene_gets_more_optimistic(results: PolicyResults) -> None:
    optimist = PolicyResults(
        results.spec, results.episodes, {world: dict(each) for world, each in results.worlds.items()}
    )
    for policy in results.spec.policies:
        optimist.worlds["aligned.replay"][policy] = {"toy": WorldResult(np.ones((EPISODES, HORIZON), np.float32))}
    gate = PolicyMetrics(optimist).json()["gates"]["false_success"]
    assert not gate["passed"]
    assert gate["figures"]["mean"] == 1.0


def test_no_policies_give_no_metrics() -> None:
    value = PolicyMetrics(PolicyResults(PoliciesSpec(), {})).json()
    assert value["policies"] == {}
    assert "agreement" not in value


def test_rows_of_the_tables(results: PolicyResults) -> None:
    rates = rate_rows(results)
    assert rates[0] == {"policy": "expert", "source": "toy", "simulator": 0.8, "supervised": 0.6, "aligned": 0.9}
    rows = episode_rows(results)
    assert len(rows) == EPISODES * 4 * len(results.worlds)
    assert sum(row["success"] for row in rows if row["world"] == "simulator") == 18
