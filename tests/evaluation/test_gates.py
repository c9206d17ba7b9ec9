"""Every gate passes, fails, and is not measured where it should."""

from typing import Any

import pytest

from roboalign.evaluation.gates import NotMeasuredError, figure, gates
from roboalign.evaluation.spec import ComparisonSpec, EvaluationSpec

SPEC = EvaluationSpec()


MOTION = {"mean": 0.9, "low": 0.6, "high": 1.1, "n": 24}


def passing() -> dict[str, Any]:
    return {
        "tokenizer": {"psnr": {"mean": 27.0, "low": 26.0, "high": 28.0}, "copy_context_psnr": 23.0},
        "world_model": {
            "psnr": 25.0,
            "copy_context_psnr": 23.0,
            "action_gap_psnr": {"mean": 1.5, "low": 1.2, "high": 1.8, "n": 24},
        },
        "rl": {"motion_ratio": 0.95},
        "rollout": {
            "supervised.ar.greedy": {"ssim": 0.80, "psnr": 23.0, "perceptual": 0.20, "motion_ratio": MOTION},
            "supervised.swr.greedy": {"ssim": 0.81, "psnr": 23.4, "perceptual": 0.19, "motion_ratio": MOTION},
        },
    }


SWR = passing()["rollout"]["supervised.swr.greedy"]


def difference(low: float) -> dict[str, Any]:
    total = {"total": {"mean": low + 0.2, "low": low, "high": low + 0.4, "n": 24}}
    return {"aligned.swr.greedy": {"supervised.swr.greedy": {"student": total, "teacher": total}}}


def test_all_that_can_be_measured_passes() -> None:
    measured, missing = gates(passing(), difference(0.1), SPEC)
    assert {name: gate["passed"] for name, gate in measured.items()} == {
        "codec_above_copy_context": True,
        "world_model_above_copy_context": True,
        "action_gap": True,
        "motion_ratio": True,
        "motion_against_truth": True,
        "swr_above_ar": True,
        "aligned_above_supervised_student": True,
        "aligned_above_supervised_teacher": True,
    }
    assert set(missing) == {
        "student_gold_agreement",
        "aligned_above_supervised_held_out",
        "aligned_above_supervised_gold",
    }
    assert measured["codec_above_copy_context"]["figures"]["difference"] == pytest.approx(4.0)


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
    assert not measured["aligned_above_supervised_teacher"]["passed"]

    second = ComparisonSpec(model="aligned.ar.greedy", against="supervised.ar.greedy")
    both = SPEC.model_copy(update={"aligned": (*SPEC.aligned, second)})
    differences = difference(0.1)
    assert "needs aligned.ar.greedy" in gates(passing(), differences, both)[1]["aligned_above_supervised_teacher"]
    differences["aligned.ar.greedy"] = {"supervised.ar.greedy": difference(-0.3)["aligned.swr.greedy"].popitem()[1]}
    assert not gates(passing(), differences, both)[0]["aligned_above_supervised_teacher"]["passed"]


def test_an_absent_figure_never_passes() -> None:
    measured, missing = gates({}, {}, SPEC)
    assert measured == {}
    assert missing["motion_ratio"] == "needs rl motion_ratio"
    assert missing["motion_against_truth"] == "needs rollout supervised.ar.greedy motion_ratio"
    assert missing["codec_above_copy_context"] == "needs tokenizer psnr"
    assert missing["aligned_above_supervised_teacher"].startswith("needs aligned.swr.greedy and supervised.swr.greedy")
    assert missing["student_gold_agreement"] == "needs gold: scores from the simulator's state"


def test_agreement_with_the_teacher_is_reported_where_gold_is_missing() -> None:
    metrics = passing() | {"student": {"total": {"spearman": 0.712}}}
    assert gates(metrics, {}, SPEC)[1]["student_gold_agreement"].endswith("Spearman of totals is 0.71")


@pytest.mark.parametrize("value", [None, True, "27", {"low": 1.0}])
def test_only_numbers_are_figures(value: Any) -> None:
    with pytest.raises(NotMeasuredError, match="tokenizer psnr"):
        figure({"tokenizer": {"psnr": value}}, "tokenizer/psnr")
