"""Training in several processes, one for each device: how they start, and what they share.

A stage is one process. For training on several devices, `fit` starts the same stage again as ranks by a launcher
(torchrun on this machine, srun in a SLURM allocation). Ranks read what the stage has prepared, train, and end; the
stage then loads the trained weights and measures them. Every rank has the same weights. Each step draws its samples and
random numbers for the global batch and gives each rank every n-th row, so that the number of ranks does not change what
is trained, except for dropout. Gradients are averaged by one all-reduce before each optimizer step.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from roboalign.errors import StageError
from roboalign.hardware.spec import DeviceSpec

Launcher = Literal["torchrun", "srun"]

TRAINING = "ROBOALIGN_TRAINING"
"""Environment variable of ranks: the label of the training that they belong to."""
PARENT = "ROBOALIGN_PARENT"
"""Environment variable of ranks: the process number of the stage, on this machine."""

BUCKET = 16 * 2**20
"""Most elements of one all-reduce: it bounds the memory of the copy."""


@dataclass(frozen=True)
class Launch:
    """How a stage starts its ranks."""

    launcher: Launcher
    stage: tuple[str, ...]
    """The module of the stage and its arguments, as Python's -m takes them."""

    def command(self, device_spec: DeviceSpec) -> list[str]:
        """The command that starts all ranks and ends when they have ended."""
        if self.launcher == "srun":
            start = ["srun", f"--nodes={device_spec.nodes}", f"--ntasks-per-node={device_spec.devices}",
                     "--kill-on-bad-exit=1", sys.executable]  # fmt: skip
        else:
            start = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                     f"--nproc-per-node={device_spec.devices}"]  # fmt: skip
        return [*start, "-m", *self.stage]


_launches: list[Launch] = []
"""How this stage starts its ranks; empty until `set_launch`."""


def set_launch(launch: Launch) -> None:
    """Set how trainings of this process start their ranks."""
    _launches[:] = [launch]


def is_rank() -> bool:
    """Whether this process is a rank of a training, not the stage that started it."""
    return TRAINING in os.environ


def rank_number() -> int:
    """The number of this rank, from 0, before the process group exists; 0 for the stage itself."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) if is_rank() else 0


def local_rank() -> int:
    """The number of this rank on its machine."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))


def run_ranks(device_spec: DeviceSpec, label: str) -> None:
    """Train `label` in ranks and wait for them.

    Raises StageError if a rank fails, which has printed its message, or if this process is not a stage.
    """
    if not _launches:
        raise StageError(f"{label}: training on {device_spec.ranks} devices needs a stage; run `dvc repro`")
    torch.cuda.empty_cache()  # the first rank computes on the same GPU as this process
    environment = os.environ | {
        TRAINING: label,
        PARENT: str(os.getpid()),
        "OMP_NUM_THREADS": str(device_spec.threads),
    }
    done = subprocess.run(_launches[0].command(device_spec), env=environment, check=False)
    if done.returncode:
        raise StageError(
            f"{label}: training in {device_spec.ranks} processes ended with status {done.returncode}; see the message "
            "above, and run again: it resumes at the last scratch checkpoint"
        )


@dataclass(frozen=True)
class BatchShard:
    """The rows of a rank, or of a micro-batch of it, of the global batch: `index`, `index + count`, ...

    Random numbers are drawn for the whole batch, so a row gets the same numbers in any shard.
    """

    index: int = 0
    count: int = 1
    generator: torch.Generator = field(default_factory=lambda: torch.default_generator)
    """In the same state on all ranks."""

    def split(self, parts: int) -> list["BatchShard"]:
        """This shard in `parts` shards: its rows 0, parts, ..., its rows 1, parts + 1, ..., and so on.

        Each draws from a copy of the generator, so it gets the numbers that this shard would have given its rows.
        """
        if parts == 1:
            return [self]
        return [
            BatchShard(self.index + self.count * part, self.count * parts, self.generator.clone_state())
            for part in range(parts)
        ]

    def rand(self, shape: Sequence[int]) -> Tensor:
        """Uniform numbers in [0, 1) for this shard's rows; `shape` is that of the shard."""
        return self.rows(torch.rand(self._whole(shape), generator=self.generator))

    def randn(self, shape: Sequence[int]) -> Tensor:
        """Normal numbers for this shard's rows; `shape` is that of the shard."""
        return self.rows(torch.randn(self._whole(shape), generator=self.generator))

    def randint(self, high: int, shape: Sequence[int]) -> Tensor:
        """Integers in [0, high) for this shard's rows; `shape` is that of the shard."""
        return self.rows(torch.randint(high, self._whole(shape), generator=self.generator))

    def rows(self, values: Tensor, dim: int = 0) -> Tensor:
        """This shard's part of values that hold a row for each of the global batch along `dim`."""
        index = torch.arange(self.index, values.shape[dim], self.count, device=values.device)
        return values if self.count == 1 else values.index_select(dim, index)

    def leading(self, count: int) -> int:
        """How many of the first `count` rows of the global batch are in this shard."""
        return len(range(self.index, count, self.count))

    def positions(self, rows: int) -> list[int]:
        """The places of this shard's `rows` rows in the global batch."""
        return [self.index + self.count * row for row in range(rows)]

    def _whole(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (shape[0] * self.count, *shape[1:])


def world_size() -> int:
    """Number of ranks of the process group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over all ranks, in place. A gradient that one rank alone has counts as zero elsewhere."""
    ranks = world_size()
    if ranks == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    present = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
    dist.all_reduce(present, op=dist.ReduceOp.MAX)
    gradients = []
    for parameter, anywhere in zip(trained, present.tolist(), strict=True):
        if anywhere:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        parts = torch.split(flat.div_(ranks), [gradient.numel() for gradient in bucket])
        for gradient, values in zip(bucket, parts, strict=True):
            gradient.copy_(values.view_as(gradient))


def _buckets(gradients: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Gradients of one type, of about BUCKET elements together."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and (gradient.dtype != bucket[0].dtype or sum(g.numel() for g in bucket) + gradient.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


@torch.no_grad()
def gather_rows(values: Tensor, group: int = 1) -> Tensor:
    """The rows of all ranks in the order of the global batch; `group` rows in succession belong to one sample."""
    ranks = world_size()
    if ranks == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(ranks)]
    dist.all_gather(parts, values.contiguous())
    samples = [part.view(-1, group, *values.shape[1:]) for part in parts]
    return torch.stack(samples, 1).flatten(0, 2)


@torch.no_grad()
def average_over_ranks(values: Tensor) -> Tensor:
    """The mean of a tensor over all ranks."""
    ranks = world_size()
    if ranks == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / ranks


def mean_over_ranks(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """The mean of each value over all ranks, which have the same names."""
    if world_size() == 1 or not values:
        return dict(values)
    names = sorted(values)
    stacked = torch.tensor([values[name] for name in names], dtype=torch.float64, device=device)
    dist.all_reduce(stacked)
    return dict(zip(names, (stacked / world_size()).tolist(), strict=True))


def from_first_rank(values: Tensor) -> Tensor:
    """The values of rank 0, on all ranks."""
    if world_size() > 1:
        dist.broadcast(values, 0)
    return values
