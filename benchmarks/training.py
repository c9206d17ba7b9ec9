"""The world model's training beside the machine's matrix products.

python -m benchmarks.training [--size paper] [--size default] [--device cuda --precision bf16-mixed] [--write]

The stage's own training (`fit`: data loading, loss, gradient clipping, AdamW) runs on random codes, and the rate of
the model's operations is told as a share of the best rate that `torch.mm` reaches on this machine right after, in the
same precision and with the same threads. The target is half of it at the paper's size; exit code 1 where it is missed.

Operations are those that the formula below needs, however many a kernel spends; what is not a matrix product (norms,
softmax, embeddings, loss, optimizer) takes time but counts nothing. A multiply-add is two operations, and a backward
pass costs two forward passes, so that a step over B sequences of T tokens, F frames of D dynamics tokens, takes

    6 · B · (T · M  +  L · h · T²  +  F · D · h · V)

with M the numbers in the matrices of L layers of width h, V dynamics codes, T² instead of 2 T² because attention is
causal, and the output matrix on those F · D slots alone that predict a token.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.results import machine, record
from roboalign.hardware.spec import DeviceSpec
from roboalign.run import prepare
from roboalign.spec.single import single
from roboalign.spec.training import TrainingSpec
from roboalign.training import fit
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.lit import WorldModelTraining
from roboalign.world_model.model import WorldModel, seeded_world_model

TARGET = 0.5
"""The least share of the matrix products' rate at the paper's size."""
WARM = 1
"""Steps before those that are timed."""


@dataclass(frozen=True)
class Size:
    """Files of specs/, and what is trained on."""

    variant: str
    """In specs/tokenizer/ and specs/world_model/."""
    action_width: int
    batch: int
    steps: int
    """Timed steps."""


SIZES = {"paper": Size("paper", 13, 1, 2), "default": Size("tiny", 7, 16, 20)}


def build(size: Size) -> WorldModel:
    """The model of the shipped specs."""
    tokenizer, spec = (
        single(Path(), Path(f"specs/{part}/{size.variant}.yaml"), part) for part in ("tokenizer", "world_model")
    )
    return seeded_world_model(spec, TokenShape.of(tokenizer, size.action_width), 0)


class RandomSegments(Dataset[dict[str, Tensor]]):
    """Segments of codes and actions drawn at random, as `Segments` gives them."""

    def __init__(self, model: WorldModel) -> None:
        self.shape, self.frames = model.shape, model.spec.segment.frames

    def __len__(self) -> int:
        return 2**16

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        shape, draw = self.shape, torch.Generator().manual_seed(number)
        context = torch.randint(shape.context_codes, (shape.context_tokens,), generator=draw)
        dynamics = torch.randint(shape.dynamics_codes, (1 + self.frames, shape.dynamics_tokens), generator=draw)
        return {
            "context": torch.cat([context, dynamics[0]]),
            "dynamics": dynamics[1:],
            "actions": torch.rand(self.frames, shape.action_width, generator=draw) * 2 - 1,
            "action_mask": torch.ones(shape.action_width, dtype=torch.bool),
        }


def synchronised(device: str) -> float:
    """The time now, all that was asked of the device being done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock(Callback):
    """Seconds of each step, from one batch's start to the next one's."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.marks: list[float] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        """The end of what came before."""
        self.marks.append(synchronised(self.device))

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """The end of the last step."""
        self.marks.append(synchronised(self.device))


def operations(model: WorldModel, batch: int) -> float:
    """Operations of a training step, by the formula above."""
    spec, shape, frames = model.spec, model.shape, model.spec.segment.frames
    length = model.layout.length(frames)
    matrices = sum(parameter.numel() for parameter in model.layers.parameters() if parameter.ndim == 2)
    attention = spec.layers * spec.hidden_size * length**2
    output = frames * shape.dynamics_tokens * spec.hidden_size * shape.dynamics_codes
    return 6.0 * batch * (length * matrices + attention + output)


def best_product(model: WorldModel, batch: int, device: str, precision: str) -> float:
    """The highest rate, in operations a second, of products as large as the model's and of large square ones."""
    kind = torch.float32 if precision == "32-true" else torch.bfloat16
    spec, rows = model.spec, batch * model.layout.length(model.spec.segment.frames)
    sizes = [
        (2048, 2048, 2048),
        (4096, 4096, 4096),
        (rows, spec.hidden_size, 2 * spec.intermediate_size),
        (rows, spec.intermediate_size, spec.hidden_size),
    ]
    if device == "cuda":
        sizes.append((8192, 8192, 8192))
    best = 0.0
    for m, k, n in sizes:
        a, b = torch.randn(m, k, device=device, dtype=kind), torch.randn(k, n, device=device, dtype=kind)
        out = torch.mm(a, b)
        until = synchronised(device) + 2.0
        while (began := synchronised(device)) < until:
            torch.mm(a, b, out=out)
            best = max(best, 2.0 * m * k * n / (synchronised(device) - began))
    return best


def child(name: str, batch: int, steps: int, device: DeviceSpec) -> dict[str, float]:
    """The figures of one size, in this process."""
    prepare(device)
    kind = device.accelerator
    model, clock = build(SIZES[name]), Clock(kind)
    parameters, work = sum(parameter.numel() for parameter in model.parameters()), operations(model, batch)
    spec = TrainingSpec(steps=WARM + steps, batch_size=batch, learning_rate=1e-4, warmup_steps=1)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            WorldModelTraining(model), RandomSegments(model), spec, device, label=name, scratch=Path(folder),
            curves=Path(folder) / "curve.tsv", callbacks=(clock,),
        )  # fmt: skip
    peak = (
        torch.cuda.max_memory_allocated()
        if kind == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    taken = sorted(after - before for before, after in zip(clock.marks[WARM:], clock.marks[WARM + 1 :], strict=False))
    seconds = taken[len(taken) // 2] if len(taken) % 2 else sum(taken[len(taken) // 2 - 1 : len(taken) // 2 + 1]) / 2
    length = model.layout.length(model.spec.segment.frames)
    del model
    return {
        "parameters": parameters,
        "length": length,
        "operations": work,
        "seconds": seconds,
        "limit": best_product(build(SIZES[name]), batch, kind, device.precision),
        "peak": peak,
    }


def measured(name: str, options: argparse.Namespace) -> tuple[str, float]:
    """A row of the table, and the share of the limit."""
    size = SIZES[name]
    batch, steps = options.batch or size.batch, options.steps or size.steps
    arguments = ["--child", name, "--batch", str(batch), "--steps", str(steps), "--device", options.device]
    arguments += ["--precision", options.precision, "--threads", str(options.threads)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    rate = found["operations"] / found["seconds"]
    share, tokens = rate / found["limit"], batch * found["length"] / found["seconds"]
    row = (
        f"| {name}: {found['parameters'] / 1e6:.1f} M parameters, {batch} x {found['length']} tokens | "
        f"{found['operations'] / 1e9:.0f} | {found['seconds']:.3f} | {tokens:.0f} | "
        f"{rate / 1e9:.1f} | {found['limit'] / 1e9:.1f} | {share:.1%} | {found['peak'] / 2**20:.0f} |"
    )
    return row, share


def main() -> int:
    """Measure and print the table; `--write` keeps it in RESULTS.md. 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--size", action="append", choices=[*SIZES], help="which sizes; all by default")
    parser.add_argument("--batch", type=int, default=0, help="sequences a step instead of the size's own")
    parser.add_argument("--steps", type=int, default=0, help="timed steps instead of the size's own")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/RESULTS.md")
    parser.add_argument("--child", choices=[*SIZES], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        device = DeviceSpec(accelerator=options.device, precision=options.precision, threads=options.threads)
        print(json.dumps(child(options.child, options.batch, options.steps, device)))
        return 0
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} threads"
    lines = [
        f"`python -m benchmarks.training`: {machine()}",
        f"torch {torch.__version__}, {options.device} ({where}), {options.precision}. The limit is the best rate of "
        f"`torch.mm`; the target is {TARGET:.0%} of it at the paper's size.",
        "",
        "| size | GFLOP a step | seconds a step | tokens/s | GFLOP/s | limit, GFLOP/s | share | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    shares = {}
    for name in options.size or [*SIZES]:
        row, shares[name] = measured(name, options)
        lines.append(row)
        print(row, flush=True)
    if options.write:
        record(f"Training ({options.device}, {options.precision})", "\n".join(lines))
    return int(shares.get("paper", TARGET) < TARGET)


if __name__ == "__main__":
    sys.exit(main())
