"""Every gate passes, fails, and is not measured where it should."""

from typing import Any

import pytest

from roboalign.evaluation.gates import NotMeasuredError, figure, gates
from roboalign.evaluation.spec import ComparisonSpec, EvaluationSpec

PAIR = ComparisonSpec(model="aligned.swr.greedy", against="supervised.swr.greedy")
SPEC = EvaluationSpec(aligned=(PAIR,))

MOTION = {"mean": 0.9, "low": 0.6, "high": 1.1, "n": 24}


def interval(low: float, width: float = 0.4) -> dict[str, float]:
    return {"mean": low + width / 2, "low": low, "high": low + width, "n": 24}


def agreement(correlation: float = 0.4, gain: float = 0.1) -> dict[str, Any]:
    """How a student ranks rollouts of one prompt, as gold sees it."""
    return {"correlation": interval(correlation - 0.2), "best_of": {"16": interval(gain)}}


def passing() -> dict[str, Any]:
    return {
        "tokenizer": {"psnr": {"mean": 27.0, "low": 26.0, "high": 28.0}, "copy_context_psnr": 23.0},
        "world_model": {
            "psnr": 25.0,
            "copy_context_psnr": 23.0,
            "action_gap_psnr": {"mean": 1.5, "low": 1.2, "high": 1.8, "n": 24},
        },
        "student": {"within_groups": {"gold": {"faithful": {"8": agreement(), "16": agreement()}}}},
        "rl": {"motion_ratio": 0.95},
        "rollout": {
            "supervised.ar.greedy": {"ssim": 0.80, "psnr": 23.0, "perceptual": 0.20, "motion_ratio": MOTION},
            "supervised.swr.greedy": {"ssim": 0.81, "psnr": 23.4, "perceptual": 0.19, "motion_ratio": MOTION},
        },
    }


SWR = passing()["rollout"]["supervised.swr.greedy"]


def difference(low: float, **outcomes: dict[str, float]) -> dict[str, Any]:
    """Aligned less supervised: the totals' intervals begin at `low`; nothing is lost unless `outcomes` say so."""
    total = {"total": interval(low)}
    scorers = {f"{name}_faithful": total for name in ("student", "judge", "held_out", "gold")}
    same = {name: interval(-0.2) for name in ("psnr", "position_error_cm", "false_success")}
    return {PAIR.model: {PAIR.against: {**scorers, "outcomes": same | outcomes}}}


ALL = {
    "codec_above_copy_context", "world_model_above_copy_context", "action_gap", "motion_ratio", "motion_against_truth",
    "swr_above_ar", "student_gold_agreement", "fidelity", "false_success", "aligned_above_supervised_student",
    "aligned_above_supervised_judge", "aligned_above_supervised_held_out", "aligned_above_supervised_gold",
}  # fmt: skip


def test_all_gates_pass_on_good_figures() -> None:
    measured, missing = gates(passing(), difference(0.1), SPEC)
    assert {name: gate["passed"] for name, gate in measured.items()} == dict.fromkeys(ALL, True)
    assert missing == {}
    assert measured["codec_above_copy_context"]["figures"]["difference"] == pytest.approx(4.0)


@pytest.mark.parametrize("scorer", ["student", "judge", "held_out", "gold"])
def test_absolute_totals_do_not_decide(scorer: str) -> None:
    # A hallucinated success raises the absolute total; the gates read the faithful one.
    differences = difference(0.1)
    pair = differences[PAIR.model][PAIR.against]
    pair[f"{scorer}_faithful"], pair[scorer] = {"total": interval(-0.1)}, {"total": interval(1.0)}
    measured, _ = gates(passing(), differences, SPEC)
    assert [name for name, gate in measured.items() if not gate["passed"]] == [f"aligned_above_supervised_{scorer}"]


@pytest.mark.parametrize(
    ("gate", "outcome", "low"),
    [
        ("fidelity", "psnr", -0.5),  # [-0.5, -0.1]: lower
        ("fidelity", "position_error_cm", 0.1),  # [0.1, 0.5]: higher
        ("false_success", "false_success", 0.01),
    ],
)
def test_what_alignment_must_not_lose(gate: str, outcome: str, low: float) -> None:
    measured, _ = gates(passing(), difference(0.1, **{outcome: interval(low)}), SPEC)
    assert [name for name, verdict in measured.items() if not verdict["passed"]] == [gate]


def test_better_fidelity_than_before_passes() -> None:
    better = difference(0.1, psnr=interval(0.3), position_error_cm=interval(-0.9), false_success=interval(-0.5))
    measured, _ = gates(passing(), better, SPEC)
    assert measured["fidelity"]["passed"]
    assert measured["false_success"]["passed"]


@pytest.mark.parametrize("frames", ["8", "16"])
@pytest.mark.parametrize("found", [agreement(correlation=0.34), agreement(gain=-0.01)])
def test_the_student_must_rank_as_gold_does_at_every_length(frames: str, found: dict[str, Any]) -> None:
    metrics = passing()
    metrics["student"]["within_groups"]["gold"]["faithful"][frames] = found
    measured, _ = gates(metrics, difference(0.1), SPEC)
    assert [name for name, gate in measured.items() if not gate["passed"]] == ["student_gold_agreement"]


def test_a_bench_without_large_groups_does_not_measure_the_students_agreement() -> None:
    for found in ({}, {"8": {"correlation": interval(0.5)}}, {"8": {"correlation": interval(0.5), "best_of": {}}}):
        metrics = passing()
        metrics["student"]["within_groups"]["gold"]["faithful"] = found
        measured, missing = gates(metrics, difference(0.1), SPEC)
        assert "student_gold_agreement" not in measured, found
        assert "student_gold_agreement" in missing


def test_the_motion_gate_shows_what_the_codec_leaves_without_judging_it() -> None:
    metrics = passing()
    metrics["rollout"]["reconstruction"] = {"motion_ratio": MOTION | {"mean": 0.5}}
    gate = gates(metrics, difference(0.1), SPEC)[0]["motion_against_truth"]
    assert gate["passed"]
    assert gate["figures"] == {
        "supervised.ar.greedy": 0.9, "supervised.swr.greedy": 0.9, "reconstruction": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "path", "value"),
    [
        ("codec_above_copy_context", ("tokenizer", "psnr"), 22.9),
        ("world_model_above_copy_context", ("world_model", "psnr"), 23.0),
        ("action_gap", ("world_model", "action_gap_psnr"), {"mean": 0.4, "low": -0.01, "high": 0.8, "n": 24}),
        ("motion_ratio", ("rl", "motion_ratio"), 0.69),
        ("motion_ratio", ("rl", "motion_ratio"), 1.31),
        ("motion_against_truth", ("rollout", "supervised.swr.greedy"), SWR | {"motion_ratio": MOTION | {"mean": 0.69}}),
        ("motion_against_truth", ("rollout", "supervised.swr.greedy"), SWR | {"motion_ratio": MOTION | {"mean": 1.31}}),
        ("swr_above_ar", ("rollout", "supervised.swr.greedy"), SWR | {"ssim": 0.79, "psnr": 23.4, "perceptual": 0.19}),
        ("swr_above_ar", ("rollout", "supervised.swr.greedy"), SWR | {"ssim": 0.81, "psnr": 23.0, "perceptual": 0.19}),
        ("swr_above_ar", ("rollout", "supervised.swr.greedy"), SWR | {"ssim": 0.81, "psnr": 23.4, "perceptual": 0.21}),
    ],
)
def test_one_bad_figure_fails_its_gate_alone(gate: str, path: tuple[str, str], value: Any) -> None:
    metrics = passing()
    metrics[path[0]][path[1]] = value
    measured, _ = gates(metrics, difference(0.1), SPEC)
    assert [name for name, verdict in measured.items() if not verdict["passed"]] == [gate]


def test_alignment_must_leave_out_zero_in_every_listed_comparison() -> None:
    measured, _ = gates(passing(), difference(0.0), SPEC)
    assert not measured["aligned_above_supervised_judge"]["passed"]

    second = ComparisonSpec(model="aligned.ar.greedy", against="supervised.ar.greedy")
    both = SPEC.model_copy(update={"aligned": (*SPEC.aligned, second)})
    differences = difference(0.1)
    assert "needs aligned.ar.greedy" in gates(passing(), differences, both)[1]["aligned_above_supervised_judge"]
    differences[second.model] = {second.against: difference(-0.3)[PAIR.model][PAIR.against]}
    assert not gates(passing(), differences, both)[0]["aligned_above_supervised_judge"]["passed"]


def test_an_absent_figure_never_passes() -> None:
    measured, missing = gates({}, {}, SPEC)
    assert measured == {}
    assert missing["motion_ratio"] == "needs rl motion_ratio"
    assert missing["motion_against_truth"] == "needs rollout supervised.ar.greedy motion_ratio"
    assert missing["codec_above_copy_context"] == "needs tokenizer psnr"
    assert missing["aligned_above_supervised_judge"].startswith("needs aligned.swr.greedy and supervised.swr.greedy")
    assert missing["student_gold_agreement"] == "needs gold: scores from the simulator's state"


@pytest.mark.parametrize("value", [None, True, "27", {"low": 1.0}])
def test_only_numbers_are_figures(value: Any) -> None:
    with pytest.raises(NotMeasuredError, match="tokenizer psnr"):
        figure({"tokenizer": {"psnr": value}}, "tokenizer/psnr")
