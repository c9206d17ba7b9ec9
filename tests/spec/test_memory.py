"""The formulas of memory against models on the meta device and autograd on the CPU, and what they bound."""

from dataclasses import replace

import pytest

from benchmarks.memory import context_numbers, kept_bytes, load_experiment
from roboalign.spec.estimates import estimates
from roboalign.spec.memory import activation_bytes, stage_memory


@pytest.mark.parametrize("name", ["tiny", "paper", "align_rt1"])
def test_an_encoded_context_has_the_numbers_of_the_formula(name: str) -> None:
    spec = load_experiment(name).tokenizer
    assert context_numbers(spec) == spec.encoded_context


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_activations_are_what_autograd_keeps(name: str, precision: str) -> None:
    spec = load_experiment(name).world_model
    assert activation_bytes(spec, precision) == pytest.approx(kept_bytes(spec, precision), rel=0.1)


@pytest.mark.parametrize("name", ["paper", "align_rt1"])
def test_a_large_data_set_fits_into_one_machine(name: str) -> None:
    experiment = load_experiment(name)
    rows = estimates(experiment, 100_000)
    assert {"tokenizer", "bench", "rl", "rollout"} <= {row.part for row in rows}
    for row in rows:
        assert (row.memory_gb or 0) < 80, row.part
        assert row.ram_gb is not None
        assert row.ram_gb < 24, row.part


def test_more_episodes_take_no_more_of_a_device_and_little_ram() -> None:
    experiment = load_experiment("paper")
    few, many = ({memory.stage: memory for memory in stage_memory(experiment, count)} for count in (50_000, 100_000))
    for stage, memory in many.items():
        assert memory.device == few[stage].device
        assert memory.host_gb - few[stage].host_gb < 1, stage


def test_rollouts_that_are_kept_take_no_ram() -> None:
    experiment = load_experiment("tiny")
    rollout = experiment.rollout.model_copy(update={"episodes": 10 * experiment.rollout.episodes})
    less, more = (
        {memory.stage: memory for memory in stage_memory(each)}
        for each in (experiment, replace(experiment, rollout=rollout))
    )
    assert more["rollout"].host == less["rollout"].host
