"""The headline figures: few numbers, those of the metrics files, and only what was measured."""

from dataclasses import replace

import pytest

from roboalign.report.headline import headline_figures, summary
from roboalign.report.inputs import Inputs


def test_they_are_the_figures_of_the_metrics_files(full_inputs: Inputs) -> None:
    found, metrics = summary(full_inputs), full_inputs.metrics
    swr, aligned = "supervised.swr.greedy", "aligned.swr.greedy"
    assert found["tokenizer"] == {"psnr": metrics["tokenizer"]["psnr"]["mean"]}
    assert found["world_model"] == {"psnr": metrics["world_model"]["psnr"], "action_gap_psnr": 1.57}
    assert found["swr"]["psnr"] == metrics["rollout"][swr]["psnr"]["mean"]
    assert found["ar"]["ssim"] == metrics["rollout"]["supervised.ar.greedy"]["ssim"]["mean"]
    models, outcomes = metrics["evaluation"]["models"], metrics["evaluation"]["outcomes"]
    assert found["aligned"] == {
        "gold_faithful": models[aligned]["gold_faithful"]["total"]["mean"],
        "held_out_faithful": models[aligned]["held_out_faithful"]["total"]["mean"],
        "false_success": outcomes[aligned]["false_success"]["mean"],
    }
    assert found["supervised"]["gold_faithful"] == models[swr]["gold_faithful"]["total"]["mean"]
    assert found["alignment_gain"] == {"gold_faithful": -0.1, "held_out_faithful": 0.1}
    assert found["student"] == {"gold_correlation": pytest.approx(0.33), "judge_spearman": 0.85}, "of 30 frames"
    assert found["gates"] == {"passed": 3, "failed": 1, "not_measured": 1}


def test_they_are_few_numbers_in_groups(full_inputs: Inputs) -> None:
    policies = {"agreement": {name: {"pooled": {"pearson": {"mean": 0.8}}} for name in ("supervised", "aligned")}}
    found = summary(replace(full_inputs, metrics={**full_inputs.metrics, "policies": policies}))
    numbers = [value for group in found.values() for value in group.values()]
    assert found["policies"] == {"supervised_pearson": 0.8, "aligned_pearson": 0.8}
    assert len(numbers) == 25
    assert all(isinstance(value, float) or (name == "gates" and isinstance(value, int))
               for name, group in found.items() for value in group.values())  # fmt: skip


def test_what_was_not_measured_is_left_out(full_inputs: Inputs) -> None:
    assert summary(Inputs({}, {}, {}, {})) == {}
    for absent in full_inputs.metrics:
        metrics = {name: value for name, value in full_inputs.metrics.items() if name != absent}
        found = headline_figures(replace(full_inputs, metrics=metrics))
        assert found.items() <= headline_figures(full_inputs).items(), absent
    metrics = {name: value for name, value in full_inputs.metrics.items() if name != "evaluation"}
    assert "gates" not in summary(replace(full_inputs, metrics=metrics))


def test_they_follow_the_declared_comparisons(full_inputs: Inputs) -> None:
    pair = {"model": "supervised.best_of_4", "against": "supervised.ar.greedy"}
    spec = {**full_inputs.spec, "evaluation": {"aligned": [pair],
            "gates": {"swr": {"model": "supervised.swr.sampled", "against": "supervised.swr.greedy"}}}}  # fmt: skip
    found, metrics = summary(replace(full_inputs, spec=spec)), full_inputs.metrics
    assert found["swr"]["psnr"] == metrics["rollout"]["supervised.swr.sampled"]["psnr"]["mean"]
    assert found["ar"]["psnr"] == metrics["rollout"]["supervised.swr.greedy"]["psnr"]["mean"]
    models = metrics["evaluation"]["models"]
    assert found["aligned"]["gold_faithful"] == models["supervised.best_of_4"]["gold_faithful"]["total"]["mean"]
