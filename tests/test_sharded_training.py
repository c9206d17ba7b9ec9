"""Trainings with weights sharded over ranks (FSDP2): they end as those of one process, and survive a kill."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import Dataset

from roboalign.distributed import is_rank, rank_number
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_json, read_tsv, write_json
from roboalign.training import fit
from roboalign.world_model.lit import Snapshot, WorldModelTraining
from tests.ranks import as_only_rank, run_ranks
from tests.small_models import random_segments, world_model

ALONE = DeviceSpec(threads=1)
SHARDED = DeviceSpec(threads=1, devices=2, strategy="fsdp")
STEPS = 6


class Segments(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.tensors = random_segments(16)

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: tensor[index] for name, tensor in self.tensors.items()}


class InterruptedTrainingError(Exception):
    """Stands for kill -9 of the only rank."""


class Interrupt(Callback):
    """Raises an error before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: lightning.Trainer, module: Any, batch: Any, index: int) -> None:
        if module.step == self.step:
            raise InterruptedTrainingError


class Kill(Callback):
    """Kills a rank before a step."""

    def __init__(self, rank: int, step: int) -> None:
        self.rank, self.step = rank, step

    def on_train_batch_start(self, trainer: lightning.Trainer, module: Any, batch: Any, index: int) -> None:
        if is_rank() and (rank_number(), module.step) == (self.rank, self.step):
            os.kill(os.getpid(), signal.SIGKILL)


class ShareReport(Callback):
    """Writes which share of the numbers a rank has of the model, its average and the optimizer's states."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_end(self, trainer: lightning.Trainer, module: Any) -> None:
        states = [v for s in trainer.optimizers[0].state.values() for v in s.values() if v.ndim]
        sets = {"model": module.model.parameters(), "average": module.average.module.parameters(), "states": states}
        if rank_number() == 1:
            write_json(self.file, {name: share(tensors) for name, tensors in sets.items()})


def share(tensors: Any) -> float:
    """The share of the numbers of sharded tensors that this rank has."""
    pairs = [(tensor.to_local().numel(), tensor.numel()) for tensor in tensors]
    return float(sum(local for local, _ in pairs) / sum(whole for _, whole in pairs))


def train(
    folder: Path, device_spec: DeviceSpec, optimizer: str = "adamw", callbacks: tuple[Callback, ...] = ()
) -> WorldModelTraining:
    """Train a world model with clipped gradients, micro-batches, activation checkpointing and averaged weights."""
    folder.mkdir(exist_ok=True)
    training = {
        "steps": STEPS, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 1, "checkpoint_every": 2,
        "log_every": 2, "gradient_clip": 0.05, "optimizer": optimizer,
    }  # fmt: skip
    model = world_model(3, layers=2, training=training, ema_decay=0.5, change_weight=1.0, corruption=0.2)
    model.activation_checkpointing = True
    module = WorldModelTraining(model)
    snapshot = Snapshot(model, 3, folder / "early.safetensors", "x")
    fit(
        module, Segments(), model.spec.training, device_spec, label="world_model", scratch=folder,
        curves=folder / "curve.tsv", callbacks=(snapshot, *callbacks), micro_batches=2,
    )  # fmt: skip
    return module


def assert_close(found: nn.Module, expected: nn.Module) -> None:
    for name, values in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], values, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_a_rank_with_sharded_weights_trains_and_resumes_as_one_process(optimizer: str, tmp_path: Path) -> None:
    alone = train(tmp_path / "1", ALONE, optimizer)
    with as_only_rank("world_model"):
        train(tmp_path / "whole", ALONE, optimizer)
    with pytest.raises(InterruptedTrainingError), as_only_rank("world_model"):
        train(tmp_path / "broken", ALONE, optimizer, (Interrupt(5),))
    with as_only_rank("world_model"):
        train(tmp_path / "broken", ALONE, optimizer)
    for file in ("checkpoint.safetensors", "early.safetensors", "curve.tsv"):
        assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    loaded = train(tmp_path / "broken", ALONE, optimizer)  # the stage loads what the rank has trained
    assert_close(loaded, alone)
    assert_close(loaded.result, alone.result)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_ranks_with_sharded_weights_train_as_one_process(optimizer: str, tmp_path: Path) -> None:
    alone = train(tmp_path / "1", ALONE, optimizer)
    fused = SHARDED.model_copy(update={"fused_adamw": optimizer == "adamw"})
    report = ShareReport(tmp_path / "share.json")
    assert run_ranks("world_model", train, tmp_path / "2", fused, optimizer, (report,)) == [0, 0]
    for name, value in read_json(tmp_path / "share.json").items():
        assert value < 0.6, f"a rank has half of {name}"
    loaded = train(tmp_path / "2", ALONE, optimizer)  # the stage loads what the ranks have trained
    assert_close(loaded, alone)
    assert_close(loaded.result, alone.result)
    early, expected = ((tmp_path / each / "early.safetensors") for each in ("2", "1"))
    assert early.stat().st_size == expected.stat().st_size
    rows, others = (read_tsv(tmp_path / each / "curve.tsv") for each in ("1", "2"))
    for row, other in zip(rows, others, strict=True):
        assert {k: float(v) for k, v in row.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_killed_ranks_end_with_the_bytes_of_an_uninterrupted_run(optimizer: str, tmp_path: Path) -> None:
    assert run_ranks("world_model", train, tmp_path / "whole", SHARDED, optimizer) == [0, 0]
    codes = run_ranks("world_model", train, tmp_path / "killed", SHARDED, optimizer, (Kill(1, 5),))
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    assert run_ranks("world_model", train, tmp_path / "killed", SHARDED, optimizer) == [0, 0]
    for file in ("checkpoint.safetensors", "early.safetensors", "curve.tsv"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
