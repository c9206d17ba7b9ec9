from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from rl_fakes import module, spec

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv
from roboalign.rl.lit import GRPOModule
from roboalign.rl.spec import RLSpec
from roboalign.training import fit
from roboalign.types import Episode

pytestmark = pytest.mark.filterwarnings("ignore")


class KilledError(Exception):
    """Stands for kill -9: nothing is written on the way out."""


class KillAfter(Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if index + 1 == self.steps:
            raise KilledError


def train(rl: RLSpec, episodes: Sequence[Episode], folder: Path, *callbacks: Callback) -> GRPOModule:
    torch.set_num_threads(1)
    trained, prompts = module(rl, episodes)
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    fit(
        trained,
        prompts,
        rl.training,
        DeviceSpec(threads=1),
        label="rl",
        scratch=folder / "scratch",
        curves=folder / "rl.tsv",
        callbacks=callbacks,
    )
    return trained


def test_the_reward_rises_and_the_curve_has_its_columns(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    train(spec(steps=40, kl=0.0), toy_episodes, tmp_path)
    rows = read_tsv(tmp_path / "rl.tsv")
    first, last = (sum(float(row["reward"]) for row in part) / 5 for part in (rows[:5], rows[-5:]))
    assert last > first + 1
    assert set(rows[-1]) == {
        "step", "reward", "reward_sd", "kl", "clip_fraction", "loss", "entropy", "distillation_loss",
    }  # fmt: skip


def test_kl_holds_the_policy_back(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    free, held = (
        read_tsv(tmp_path / str(kl) / "rl.tsv")
        for kl in (0.0, 10.0)
        if train(spec(steps=20, kl=kl), toy_episodes, tmp_path / str(kl))
    )
    assert float(held[-1]["kl"]) < 0.2 * float(free[-1]["kl"])


def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    whole = train(spec(steps=7), toy_episodes, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(spec(steps=7), toy_episodes, tmp_path / "broken", KillAfter(5))
    resumed = train(spec(steps=7), toy_episodes, tmp_path / "broken")
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert (tmp_path / "whole/rl.tsv").read_bytes() == (tmp_path / "broken/rl.tsv").read_bytes()


def test_the_student_learns_only_where_it_is_distilled(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    online = train(spec(steps=4), toy_episodes, tmp_path / "online")
    offline = train(spec(steps=4, distillation=None), toy_episodes, tmp_path / "offline")
    fresh, _ = module(spec(), toy_episodes)
    before = fresh.student.state_dict()
    assert any(not torch.equal(before[name], value) for name, value in online.student.state_dict().items())
    assert all(torch.equal(before[name], value) for name, value in offline.student.state_dict().items())
    assert "distillation_loss" not in read_tsv(tmp_path / "offline/rl.tsv")[0]


def test_a_checkpoint_holds_neither_reference_nor_teacher(toy_episodes: list[Episode]) -> None:
    trained, _ = module(spec(), toy_episodes)
    assert {name.split(".")[0] for name in trained.state_dict()} == {"policy", "student", "ring", "distillation_loss"}


def test_a_constant_reward_changes_nothing_but_by_kl(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    rl = spec(steps=3, kl=0.0, distillation=None)
    trained, prompts = module(rl, toy_episodes)
    object.__setattr__(trained.around, "reward", lambda videos, words, targets: torch.ones(len(videos)))
    before = {name: value.clone() for name, value in trained.policy.state_dict().items()}
    (tmp_path / "scratch").mkdir()
    fit(trained, prompts, rl.training, DeviceSpec(threads=1), label="rl", scratch=tmp_path / "scratch",
        curves=tmp_path / "rl.tsv")  # fmt: skip
    assert all(torch.equal(before[name], value) for name, value in trained.policy.state_dict().items())
