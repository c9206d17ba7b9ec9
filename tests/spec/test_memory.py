"""The formulas of memory against models on the meta device and autograd on the CPU, and what they bound."""

from dataclasses import replace

import pytest

from benchmarks.memory import context_numbers, kept_bytes, kept_bytes_of_group, load_experiment
from roboalign.rollout.spec import ArSpec
from roboalign.spec.activations import activation_bytes, policy_activations, policy_tokens, segment_activations
from roboalign.spec.estimates import estimates
from roboalign.spec.experiment import Experiment
from roboalign.spec.memory import stage_memory


@pytest.mark.parametrize("name", ["tiny", "paper", "align_rt1"])
def test_an_encoded_context_has_the_numbers_of_the_formula(name: str) -> None:
    spec = load_experiment(name).tokenizer
    assert context_numbers(spec) == spec.encoded_context


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_activations_are_what_autograd_keeps(name: str, precision: str) -> None:
    spec = load_experiment(name).world_model
    assert activation_bytes(spec, precision) == pytest.approx(kept_bytes(spec, precision), rel=0.1)


def aligned(**changes: object) -> Experiment:
    """The experiment tiny with whole rollouts of 6 frames in groups of 8."""
    experiment = load_experiment("tiny")
    rl = experiment.rl.model_copy(update={"group_size": 8, "horizon": 6, "decoding": ArSpec()})
    hardware = experiment.hardware.model_copy(update=changes)
    return replace(experiment, rl=rl, hardware=hardware)


def test_activations_of_a_group_are_what_autograd_keeps() -> None:
    experiment = aligned()
    assert policy_activations(experiment, 8) == pytest.approx(kept_bytes_of_group(experiment), rel=0.15)


def test_a_group_shares_its_context_if_a_micro_batch_has_all_of_it_or_a_part() -> None:
    experiment = load_experiment("paper")
    frames = 7 * 93
    assert policy_tokens(experiment, 16) == (1280 + 16 * frames, 1)
    assert policy_tokens(experiment, 4) == (1280 + 4 * frames, 1)
    assert policy_tokens(experiment, 32) == (2 * 1280 + 32 * frames, 2)
    assert policy_tokens(experiment, 24) == (24 * (1280 + frames), 24), "a group and a half"
    separate, shared = 16 * (1280 + frames), policy_tokens(experiment, 16)[0]
    assert separate / shared == pytest.approx(2.64, abs=0.01), "2.6 times fewer tokens"


def test_micro_batches_and_activation_checkpointing_need_less() -> None:
    checkpointed = aligned(activation_checkpointing=True)
    assert segment_activations(checkpointed, 4, 8) < 0.5 * segment_activations(aligned(), 4, 8)
    assert policy_activations(checkpointed, 8) < 0.5 * policy_activations(aligned(), 8)
    experiment = load_experiment("paper")
    parts = experiment.hardware.micro_batches
    names = ("tokenizer", "probe", "rl", "rl_sampling")
    doubled = parts.model_copy(update={name: 2 * getattr(parts, name) for name in names})
    more = replace(experiment, hardware=experiment.hardware.model_copy(update={"micro_batches": doubled}))
    before, after = ({each.stage: each.device for each in stage_memory(e)} for e in (experiment, more))
    for stage, name in (
        ("tokenizer", "activations"),
        ("probe.gold", "activations"),
        ("rl", "key-value cache"),
        ("rl", "encoded contexts"),
    ):
        assert after[stage][name] == pytest.approx(before[stage][name] / 2), (stage, name)
    assert after["rl"]["activations"] < 0.6 * before["rl"]["activations"], "half a group still has a whole context"


def test_sharded_weights_take_a_part_of_each_device() -> None:
    experiment = load_experiment("paper")
    measure = experiment.world_model.measure.model_copy(update={"batch_size": 1})  # less than training takes
    compared = experiment.rl.measure.model_copy(update={"gradient_batches": 0})
    experiment = replace(
        experiment,
        world_model=experiment.world_model.model_copy(update={"measure": measure}),
        rl=experiment.rl.model_copy(update={"measure": compared}),
    )
    stages = {}
    for strategy in ("ddp", "fsdp"):
        device = experiment.hardware.device.model_copy(update={"devices": 8, "strategy": strategy})
        hardware = experiment.hardware.model_copy(update={"device": device})
        stages[strategy] = {each.stage: each for each in stage_memory(replace(experiment, hardware=hardware))}
    for stage, most in (("world_model", 0.35), ("rl", 0.5)):
        whole, shards = stages["ddp"][stage], stages["fsdp"][stage]
        assert shards.device["training"] < most * whole.device["training"], stage
        assert shards.device["activations"] == whole.device["activations"]
        assert whole.host["weights before sharding"] == 0 < shards.host["weights before sharding"]


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
