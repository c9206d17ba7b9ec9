import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.errors import StageError
from roboalign.hardware.spec import DeviceSpec, LoggerName
from roboalign.io import read_tsv
from roboalign.loggers import set_loggers
from roboalign.spec.training import TrainingSpec
from roboalign.trained_module import Loss, TrainedModule
from roboalign.training import fit

ROOT = Path(__file__).parent.parent
SPEC = TrainingSpec(steps=8, batch_size=2, learning_rate=0.05, warmup_steps=1, checkpoint_every=3, log_every=2)


class Ones(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return torch.ones(1)


class Killed(BaseException):
    """Stands for kill -9."""


class Slope(TrainedModule):
    """Fits one number, in two phases; dies before step `die_at`."""

    def __init__(self, die_at: int | None = None) -> None:
        super().__init__()
        self.weight, self.die_at = torch.nn.Parameter(torch.zeros(1)), die_at

    def batch_loss(self, batch: Tensor) -> Loss:
        if self.step == self.die_at:
            raise Killed
        with self.time_phase("forward"):
            loss = (batch * self.weight - 2).square().mean()
        return loss, {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield
    set_loggers(())


def train(module: Slope) -> None:
    fit(module, Ones(), SPEC, DeviceSpec(threads=1), label="student", scratch=Path("scratch"), curves=Path("curve.tsv"))


def train_with_a_kill(*names: LoggerName) -> None:
    """A training that is killed before its sixth step, after the log of the fourth, and resumes at the third."""
    set_loggers(names)
    with pytest.raises(Killed):
        train(Slope(die_at=5))
    train(Slope())


def test_curves_are_on_disk_at_every_log_step() -> None:
    with pytest.raises(Killed):
        train(Slope(die_at=5))
    assert [row["step"] for row in read_tsv(Path("curve.tsv"))] == ["2", "4"]


def test_loggers_do_not_change_what_a_stage_writes() -> None:
    train(Slope())
    plain = Path("curve.tsv").read_bytes()
    (Path("scratch") / "checkpoint.safetensors").unlink()
    set_loggers(["csv"])
    train(Slope())
    assert Path("curve.tsv").read_bytes() == plain


def test_csv_has_the_whole_curve_of_a_resumed_training() -> None:
    train_with_a_kill("csv")
    [file] = Path("logs/student").glob("*/metrics.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["step"] for row in rows] == ["2", "4", "6", "8"]
    assert [float(row["loss"]) for row in rows] == [
        pytest.approx(float(row["loss"]), rel=1e-4) for row in read_tsv(Path("curve.tsv"))
    ]
    assert float(rows[-1]["seconds_per_step"]) > 0
    assert float(rows[-1]["seconds/forward"]) > 0
    assert {row["learning_rate"] != "" for row in rows[2:]} == {True}


def test_tensorboard_shows_each_step_of_a_resumed_training_once() -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_with_a_kill("tensorboard")
    [folder] = Path("logs/student").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6, 8]


@pytest.mark.slow
def test_mlflow_continues_the_run_of_a_resumed_training() -> None:
    from mlflow.tracking import MlflowClient

    train_with_a_kill("mlflow")
    client = MlflowClient("sqlite:///logs/mlflow.db")
    [experiment] = [each for each in client.search_experiments() if each.name == "roboalign"]
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.05"
    history = client.get_metric_history(run.info.run_id, "loss")
    # MLflow keeps what was logged between the last checkpoint and the kill, and gets the same value again.
    assert [metric.step for metric in history] == [2, 4, 4, 6, 8]
    assert history[1].value == history[2].value


@pytest.mark.slow
def test_wandb_writes_offline_runs() -> None:
    set_loggers(["wandb"])
    train(Slope())
    assert list(Path("logs/wandb").glob("offline-run-*/run-student-*.wandb"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    set_loggers(["tensorboard"])

    def missing(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")

    monkeypatch.setattr("lightning.pytorch.loggers.TensorBoardLogger", missing)
    with pytest.raises(StageError, match=r"needs the package tensorboard, .*: roboalign\[loggers\]"):
        train(Slope())
    assert not os.path.exists("logs/student")


def test_a_stage_starts_without_lightning() -> None:
    code = "import sys, roboalign.run; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
