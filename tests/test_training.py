import platform
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import Dataset

from roboalign import checkpoint
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv
from roboalign.spec.training import TrainingSpec
from roboalign.trained_module import Loss, TrainedModule, strided_rows
from roboalign.training import StepBatches, fit, fold_in, learning_rate
from roboalign.training_process import training_numerics

SPEC = TrainingSpec(
    steps=11,
    batch_size=4,
    learning_rate=0.05,
    warmup_steps=2,
    checkpoint_every=3,
    log_every=2,
    gradient_clip=0.5,
    seed=3,
)
DEVICE = DeviceSpec(threads=1)


class Numbers(Dataset[Tensor]):
    """Twenty points, each with the value that a line gives it."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Tensor:
        x = torch.linspace(-1, 1, 20)[index]
        return torch.stack([x, 3 * x + 1])


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it and tidy up."""


class Line(TrainedModule):
    """Fits a line from noisy inputs; with `two`, by two optimizers, as a GAN does."""

    def __init__(self, two: bool = False, die_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.offset = torch.nn.Linear(1, 1), torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.two, self.die_at = two, die_at
        self.rates: list[float] = []
        self.numerics: set[tuple[str, bool]] = set()

    seen: Tensor

    def training_step(self, batch: Tensor, index: int) -> None:
        if self.step == self.die_at:
            raise Killed
        self.seen += 1
        self.numerics.add((torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()))
        optimizers = self.trained_optimizers()
        self.rates.append(optimizers[0].param_groups[0]["lr"])
        for number, optimizer in enumerate(optimizers):
            if number == 0 or self.step >= 4:
                optimizer.zero_grad()
                self.log_dict(self.accumulate(batch, self.batch_loss))
                optimizer.step()

    def batch_loss(self, batch: Tensor) -> Loss:
        noise = 0.1 * self.shard.randn((len(batch), 1))
        loss = (self.layer(batch[:, :1] + noise) + self.offset - batch[:, 1:]).square().mean()
        return loss, {"loss": loss, "offset": self.offset.sum()}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        if not self.two:
            return [torch.optim.AdamW(self.parameters(), lr=0.05)]
        group = {"params": [self.offset], "lr_scale": 0.5}
        return [torch.optim.AdamW(self.layer.parameters(), lr=0.05), torch.optim.Adam([group], lr=0.05)]


def train(
    folder: Path, module: Line, spec: TrainingSpec = SPEC, device: DeviceSpec = DEVICE, micro_batches: int = 1
) -> tuple[dict[str, Tensor], bytes]:
    """Train in `folder`; the weights and the bytes of the curve."""
    curves = folder / "curve.tsv"
    fit(
        module, Numbers(), spec, device, label="line", scratch=folder, curves=curves, micro_batches=micro_batches
    )  # fmt: skip
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}, curves.read_bytes()


FUSED = DEVICE.model_copy(update={"fused_adamw": True})


@pytest.mark.parametrize("two", [False, True], ids=["one optimizer", "two optimizers"])
@pytest.mark.parametrize(
    ("kills", "parts", "device"),
    [((1,), 1, DEVICE), ((5,), 4, DEVICE), ((10,), 2, FUSED), ((4, 7, 8), 1, DEVICE)],
    ids=["1", "5 micro", "10 micro fused", "4 7 8"],
)
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, two: bool, kills: tuple[int, ...], parts: int, device: DeviceSpec
) -> None:
    whole, curve = train(tmp_path / "whole", Line(two), SPEC, device, parts)
    for step in kills:
        with pytest.raises(Killed):
            train(tmp_path / "killed", Line(two, die_at=step), SPEC, device, parts)
    resumed, resumed_curve = train(tmp_path / "killed", Line(two), SPEC, device, parts)
    assert resumed["seen"] == SPEC.steps
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert curve == resumed_curve


def test_micro_batches_and_fused_adamw_train_the_same_up_to_rounding(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", Line(two=True))
    for name, device, parts in (("2", DEVICE, 2), ("4 fused", FUSED, 4)):
        weights, _ = train(tmp_path / name, Line(two=True), SPEC, device, parts)
        for key, values in whole.items():
            torch.testing.assert_close(weights[key], values, atol=1e-6, rtol=0)
        rows, others = (read_tsv(tmp_path / each / "curve.tsv") for each in ("whole", name))
        for row, other in zip(rows, others, strict=True):
            expected = {k: float(v) for k, v in other.items()}
            assert {k: float(v) for k, v in row.items()} == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_batch_that_micro_batches_do_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a device has 4 samples of a step, which hardware\.micro_batches \(3\) must"):
        train(tmp_path, Line(), micro_batches=3)


def test_parts_of_a_batch_are_rows_of_each_of_its_values() -> None:
    batch = {"numbers": torch.arange(6), "texts": list("abcdef"), "nested": {"pairs": torch.arange(12).view(6, 2)}}
    part = strided_rows(batch, 1, 3)
    assert part["numbers"].tolist() == [1, 4]
    assert part["texts"] == ["b", "e"]
    assert part["nested"]["pairs"].tolist() == [[2, 3], [8, 9]]


def test_precision_and_determinism_are_those_of_training_steps_alone(tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    for deterministic in (True, False):
        module = Line()
        train(
            tmp_path / str(deterministic), module, device=DeviceSpec(threads=1, deterministic=deterministic, tf32=True)
        )
        assert module.numerics == {("highest", deterministic)}, "TensorFloat-32 is for GPUs"
        assert (torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()) == before
    with training_numerics(DeviceSpec(accelerator="cuda", tf32=True)):
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.get_float32_matmul_precision() == before[0]


def test_a_killed_write_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = train(tmp_path / "whole", Line())
    save = checkpoint.save_file

    def half(tensors: dict[str, Tensor], name: str, metadata: dict[str, str]) -> None:
        save(tensors, name, metadata=metadata)
        if '"step": 6' in metadata["roboalign"]:
            Path(name).write_bytes(Path(name).read_bytes()[:100])
            raise Killed

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(Killed):
        train(tmp_path / "killed", Line())
    monkeypatch.undo()
    assert checkpoint.load(tmp_path / "killed/checkpoint.safetensors")[1]["step"] == 3
    resumed, _ = train(tmp_path / "killed", Line())
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_it_learns_on_schedule_and_logs(tmp_path: Path) -> None:
    module = Line()
    spec = SPEC.model_copy(update={"steps": 120, "gradient_clip": 0.0, "learning_rate": 0.2})
    weights, _ = train(tmp_path, module, spec)
    assert weights["layer.weight"].item() == pytest.approx(3, abs=0.4)
    assert module.rates == [learning_rate(spec, step) for step in range(120)]
    rows = read_tsv(tmp_path / "curve.tsv")
    assert [int(row["step"]) for row in rows] == list(range(2, 121, 2))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_nothing_is_said_but_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tmp_path, Line())
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split(",")[0] for line in err.splitlines()] == ["[line] step 11/11 (100 %)"]


def test_learning_rate_warms_up_and_decays() -> None:
    spec = TrainingSpec(steps=110, batch_size=1, learning_rate=1.0, warmup_steps=10, min_lr_ratio=0.2)
    rates = [learning_rate(spec, step) for step in range(110)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.6)
    assert rates[109] == pytest.approx(0.2, abs=1e-3)
    assert learning_rate(spec.model_copy(update={"min_lr_ratio": 1.0}), 109) == 1.0
    assert learning_rate(spec.model_copy(update={"warmup_steps": 0}), 0) == 1.0


def test_batches_depend_on_the_step_alone() -> None:
    whole = list(StepBatches(1000, SPEC, 0))
    assert list(StepBatches(1000, SPEC, 4)) == whole[4:]
    assert len(StepBatches(1000, SPEC, 4)) == 7
    assert whole[0] != whole[1]
    halves = [list(StepBatches(1000, SPEC, 0, rank, 2)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(batch) for batch in whole]
    with pytest.raises(ValueError, match=r"must be divisible by the number of devices \(3\)"):
        StepBatches(1000, SPEC, 0, 0, 3)


def test_fold_separates_seeds_and_purposes() -> None:
    seeds = {fold_in(seed, *numbers) for seed in range(20) for numbers in [(), (0,), (1,), (0, 0), (0, 1), (1, 0)]}
    assert len(seeds) == 120
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert fold_in(1, 2, 3) == fold_in(1, 2, 3)


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    class Nothing(Numbers):
        def __len__(self) -> int:
            return 0

    with pytest.raises(ValueError, match="no training samples"):
        fit(Line(), Nothing(), SPEC, DEVICE, label="line", scratch=tmp_path, curves=tmp_path / "curve.tsv")


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    module = Line()
    torch.nn.init.constant_(module.offset, float("inf"))
    with pytest.raises(ValueError, match=r"line: loss, offset is not finite at step 2; lower"):
        train(tmp_path, module)


@pytest.mark.parametrize("damage", ["text", "cut", "flipped", "foreign"])
def test_a_damaged_scratch_checkpoint_is_set_aside_and_the_training_starts_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    whole, curve = train(tmp_path / "whole", Line())
    with pytest.raises(Killed):
        train(tmp_path / "killed", Line(die_at=10))
    file = tmp_path / "killed/checkpoint.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "text":
        content = bytearray(b"nothing")
    elif damage == "cut":
        del content[-3:]
    elif damage == "flipped":
        content[-1] ^= 1
    file.write_bytes(content)
    if damage == "foreign":
        checkpoint.save(file, {"model.offset": torch.zeros(1)}, step=9, rows=[])
    capfd.readouterr()
    resumed, resumed_curve = train(tmp_path / "killed", Line())
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith(f"[line] {file} is damaged (")
    assert lines[0].endswith("renamed to checkpoint.safetensors.damaged, training restarts")
    assert (tmp_path / "killed/checkpoint.safetensors.damaged").exists()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert curve == resumed_curve


def test_a_full_disk_while_saving_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        checkpoint.CheckpointError, match=r"checkpoint\.safetensors: cannot be written \(I/O.*free space"
    ):
        train(tmp_path, Line())
    assert [path.name for path in tmp_path.iterdir()] == ["curve.tsv"]  # up to the step that could not be saved


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep memory")
def test_a_step_takes_the_memory_of_the_step_before() -> None:
    # In a process of its own, as stages are: what earlier tests left on the heap decides where memory comes from.
    program = """
import resource, torch
from roboalign.training_process import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_memory()
print(min(faults() for _ in range(6)))
"""
    made = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert int(made.stdout) < 1000  # of the 16384 pages that 64 MiB are


TERMINATED = """
import os, signal, sys
from pathlib import Path
from tests.test_training import DEVICE, SPEC, Line, Numbers
from roboalign.training import fit

class Terminated(Line):
    def training_step(self, batch, index):
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().training_step(batch, index)

folder = Path(sys.argv[1])
fit(Terminated(), Numbers(), SPEC, DEVICE, label="line", scratch=folder, curves=folder / "curve.tsv")
"""


def test_a_terminated_run_does_not_look_like_a_finished_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 128 + 15, done.stderr[-2000:]
    assert [row["step"] for row in read_tsv(tmp_path / "curve.tsv")][-1] != str(SPEC.steps)
