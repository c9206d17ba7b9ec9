"""Training in several processes: what ranks draw, how they share gradients, and that their number changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from roboalign.distributed import BatchShard, Launch, average_gradients, gather_rows, mean_over_ranks, run_ranks
from roboalign.errors import StageError
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv

PROGRAM = '''
"""Trains a line on `devices` devices, as a stage does; `die` names a rank and a step at which it is killed."""

import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from roboalign.distributed import Launch, is_rank, rank_number, set_launch
from roboalign.hardware.spec import DeviceSpec
from roboalign.spec.training import TrainingSpec
from roboalign.trained_module import TrainedModule
from roboalign.training import fit


class Line(TrainedModule):
    def __init__(self, two):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        self.unused, self.two = torch.nn.Parameter(torch.ones(1)), two

    def training_step(self, batch, index):
        if die is not None and is_rank() and (rank_number(), self.step) == die:
            os.kill(os.getpid(), signal.SIGKILL)
        self.weight = self.mean_over_shards(batch[:, 0].abs().sum())
        for number, optimizer in enumerate(self.trained_optimizers()):
            if number == 0 or self.step >= 4:
                optimizer.zero_grad()
                self.log_dict(self.accumulate(batch, self.batch_loss))
                optimizer.step()

    def batch_loss(self, batch):
        x = batch[:, :1] + 0.1 * self.shard.randn((len(batch), 1))
        errors = (self.first(x) + self.second(x).detach() - batch[:, 1:]).square()
        loss = (errors * batch[:, :1].abs()).sum() / self.weight
        other = (self.second(x) - batch[:, 1:]).square().mean()
        return loss + other, {"loss": loss, "other": other}

    def configure_optimizers(self):
        if not self.two:
            return torch.optim.Adam(self.parameters(), 0.05)
        return [torch.optim.Adam(part.parameters(), 0.05) for part in (self.first, self.second)]


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        x = torch.linspace(-1, 1, 20)[index]
        return torch.stack([x, 3 * x + 1])


devices, folder = int(sys.argv[1]), Path(sys.argv[2])
die = tuple(map(int, sys.argv[3].split(","))) if len(sys.argv) > 3 else None
spec = TrainingSpec(steps=12, batch_size=4, learning_rate=0.05, warmup_steps=2, checkpoint_every=3, log_every=2)
set_launch(Launch(os.environ.get("LAUNCHER", "torchrun"), ("line", *sys.argv[1:])))
folder.mkdir(exist_ok=True)
for label in os.environ["LABELS"].split():  # a stage may train twice; ranks of the second training skip the first
    scratch = folder / label
    scratch.mkdir(exist_ok=True)
    line = Line(two=label == "first")
    fit(line, Numbers(), spec, DeviceSpec(threads=1, devices=devices), label=label, scratch=scratch,
        curves=folder / f"{label}.tsv", micro_batches=devices if label == "second" else 1)
    save_file(line.state_dict(), folder / f"{label}.safetensors")
'''

FAKE_SRUN = '''#!{python}
"""Starts tasks as SLURM does, with its variables."""
import os
import subprocess
import sys

nodes, tasks = (int(argument.partition("=")[2]) for argument in sys.argv[1:3])
assert nodes == 1 and sys.argv[3] == "--kill-on-bad-exit=1"
started = [
    subprocess.Popen(sys.argv[4:], env=os.environ | {{
        "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NTASKS": str(tasks), "SLURM_NODEID": "0",
        "SLURM_NTASKS_PER_NODE": str(tasks),
    }})
    for rank in range(tasks)
]
sys.exit(max(process.wait() for process in started))
'''


SLURM = {
    "SLURM_JOB_ID": "12345", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "train",
    "SLURM_NODELIST": "localhost",
}  # fmt: skip


def train(folder: Path, devices: int, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run PROGRAM in `folder`; its outputs go to the folder `<devices>`."""
    (folder / "line.py").write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, "-m", "line", str(devices), str(folder / str(devices)), *more], cwd=folder, text=True,
        env=os.environ | {"PYTHONPATH": f"{folder}:{Path.cwd()}"} | environment, capture_output=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of one process within a SLURM job, whose variables mean nothing to it."""
    folder = tmp_path_factory.mktemp("alone")
    done = train(folder, 1, LABELS="first second", **SLURM)
    assert done.returncode == 0, done.stderr
    return folder / "1"


def assert_equal_training(one: Path, two: Path, label: str) -> None:
    """One process and two ranks have trained the same."""
    weights, others = (safetensors.torch.load_file(folder / f"{label}.safetensors") for folder in (one, two))
    assert weights.keys() == others.keys()
    for name, values in weights.items():
        torch.testing.assert_close(others[name], values, atol=1e-6, rtol=0)
    rows, theirs = (read_tsv(folder / f"{label}.tsv") for folder in (one, two))
    assert len(rows) == len(theirs) == 6
    for row, other in zip(rows, theirs, strict=True):
        expected = {k: float(v) for k, v in other.items()}
        assert {k: float(v) for k, v in row.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.attack
def test_a_killed_rank_ends_the_stage_which_resumes(alone: Path, tmp_path: Path) -> None:
    done = train(tmp_path, 2, "1,7", LABELS="first")
    assert done.returncode != 0
    assert "training in 2 processes ended" in done.stderr
    done = train(tmp_path, 2, LABELS="first")
    assert done.returncode == 0, done.stderr
    assert "[first] resumes at step 6 of 12" in done.stderr
    assert_equal_training(alone, tmp_path / "2", "first")


@pytest.mark.slow
def test_srun_starts_the_ranks_of_each_training(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "srun").write_text(FAKE_SRUN.format(python=sys.executable))
    (tmp_path / "srun").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = train(tmp_path, 2, LABELS="first second", PATH=path, LAUNCHER="srun", **SLURM)
    assert done.returncode == 0, done.stderr
    for label in ("first", "second"):
        assert_equal_training(alone, tmp_path / "2", label)


def test_shards_of_two_ranks_are_the_draws_of_one() -> None:
    def shards(count: int) -> list[BatchShard]:
        return [BatchShard(index, count, torch.Generator().manual_seed(5)) for index in range(count)]

    def draws(shard: BatchShard, rows: int) -> list[torch.Tensor]:
        return [shard.rand((rows, 3)), shard.randint(9, (rows,)), shard.randn((rows, 2, 2))]

    whole = draws(shards(1)[0], 6)
    parts = [draws(shard, 3) for shard in shards(2)]
    for number, values in enumerate(whole):
        assert torch.equal(torch.stack([part[number] for part in parts], 1).flatten(0, 1), values)
    assert [shard.leading(5) for shard in shards(2)] == [3, 2]
    assert [shard.positions(3) for shard in shards(2)] == [[0, 2, 4], [1, 3, 5]]
    micro_batches = [part for shard in shards(2) for part in shard.split(3)]
    assert [shard.positions(1) for shard in micro_batches] == [[0], [2], [4], [1], [3], [5]]
    for shard in micro_batches:
        for values, expected in zip(draws(shard, 1), whole, strict=True):
            assert torch.equal(values, expected[shard.index : shard.index + 1])


def test_without_a_process_group_nothing_is_shared() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    average_gradients([weight])
    assert weight.grad.tolist() == [1, 2]
    assert gather_rows(weight.grad) is weight.grad
    assert mean_over_ranks({"loss": 2.0}, torch.device("cpu")) == {"loss": 2.0}


def test_several_devices_need_a_stage() -> None:
    with pytest.raises(StageError, match="training on 2 devices needs a stage"):
        run_ranks(DeviceSpec(devices=2), "line")


def test_the_commands_of_the_launchers() -> None:
    device_spec = DeviceSpec(devices=4, nodes=2)
    assert Launch("srun", ("stages.rl",)).command(device_spec)[:4] == [
        "srun", "--nodes=2", "--ntasks-per-node=4", "--kill-on-bad-exit=1",
    ]  # fmt: skip
    command = Launch("torchrun", ("stages.judge", "held_out")).command(DeviceSpec(devices=4))
    assert command[1:] == [
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", "-m", "stages.judge", "held_out",
    ]  # fmt: skip
