"""Resumable training: every step is a pure function of weights, optimizer state and step number.

Lightning runs the loop (devices, precision). This module draws batches and random numbers from
(seed, step), sets the learning rate as a function of the step, and writes weights and optimizer state atomically to a
scratch folder every `checkpoint_every` steps. A killed run resumes from its last scratch checkpoint and ends with the
weights of an uninterrupted run, bit for bit on a CPU. On several devices it trains in ranks: see
roboalign/distributed.py.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, Dataset, Sampler

from roboalign import checkpoint
from roboalign.distributed import (
    TRAINING,
    BatchShard,
    average_gradients,
    is_rank,
    mean_over_ranks,
    run_ranks,
)
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_text, write_tsv
from roboalign.loggers import LiveLog
from roboalign.progress import ProgressReporter
from roboalign.sharded_weights import gather_on_cpu, is_sharded, load_whole_state, shard_like
from roboalign.spec.training import TrainingSpec
from roboalign.trained_module import TrainedModule
from roboalign.training_process import keep_memory, suppress_output, training_numerics


def learning_rate(spec: TrainingSpec, step: int) -> float:
    """The learning rate of `step` (from 0): linear warm-up, then cosine decay to `min_lr_ratio` of the peak."""
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    progress = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    return spec.learning_rate * (spec.min_lr_ratio + (1 - spec.min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2)


def fold_in(seed: int, *numbers: int) -> int:
    """Derive a seed in [0, 2**63) for one purpose within a run; a pure function of `seed` and `numbers`."""
    state = seed
    for number in (*numbers, len(numbers)):
        state = (state * 6364136223846793005 + 1442695040888963407 + number) % 2**63
        state = ((state ^ (state >> 29)) * 0x9E3779B97F4A7C15) % 2**63
    return state


class StepBatches(Sampler[list[int]]):
    """Indices of each batch from step `start` on, drawn with replacement from (seed, step); each rank gets its part.

    Raises ValueError if the batch size is not divisible by the number of ranks.
    """

    def __init__(self, size: int, spec: TrainingSpec, start: int, rank: int = 0, ranks: int = 1) -> None:
        if spec.batch_size % ranks:
            raise ValueError(
                f"training.batch_size ({spec.batch_size}) must be divisible by the number of devices ({ranks})"
            )
        self.size, self.spec, self.start, self.rank, self.ranks = size, spec, start, rank, ranks

    def __len__(self) -> int:
        return self.spec.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.spec.steps):
            generator = torch.Generator().manual_seed(fold_in(self.spec.seed, step, 1))
            indices = torch.randint(self.size, (self.spec.batch_size,), generator=generator)
            yield indices[self.rank :: self.ranks].tolist()


def curve_row(step: int, **logs: float) -> dict[str, float]:
    """A row of the training curve: the step, then the logged values sorted by name, in resumed runs too."""
    return {"step": step, **dict(sorted(logs.items()))}


class TrainingProgress(Callback):
    """Sets seed and learning rate before each step, averages and clips gradients, records the curve, writes scratch
    checkpoints, shows progress.

    Args:
        spec: The training.
        label: Its name in messages.
        scratch: The folder of its scratch checkpoint.
        curves: The file of its curve, which is written at every log step.
        fused: Whether AdamW updates all parameters by one kernel.
    """

    def __init__(self, spec: TrainingSpec, label: str, scratch: Path, curves: Path, fused: bool = False) -> None:
        self.spec, self.label, self.file, self.curves = spec, label, scratch / "checkpoint.safetensors", curves
        self.fused = fused
        self.start, self.finished = 0, False
        self.rows: list[dict[str, float]] = []
        self.tensors: dict[str, torch.Tensor] = {}
        if self.file.exists():
            self.read()
        self.started = self.last_log = time.monotonic()
        self.last_step = self.start
        self.reporter: ProgressReporter | None = None
        self.live: LiveLog | None = None

    def read(self) -> None:
        """Read the scratch checkpoint. A damaged one is renamed, and the training starts from the beginning."""
        try:
            self.tensors, metadata = checkpoint.load_scratch(self.file)
        except checkpoint.CheckpointError as error:
            renamed = checkpoint.set_aside(self.file).name
            print(f"[{self.label}] {error}; renamed to {renamed}, training restarts", file=sys.stderr, flush=True)
            return
        self.start, self.rows = int(metadata["step"]), [curve_row(**logged) for logged in metadata["rows"]]
        self.finished = bool(metadata.get("finished"))
        if self.finished and self.start != self.spec.steps:  # of another training: it has no optimizer states
            self.start, self.finished, self.rows, self.tensors = 0, False, [], {}

    def restore(self, module: lightning.LightningModule) -> None:
        """Load the checkpoint's weights. Raises CheckpointError if they are not those of `module`."""
        try:
            load_whole_state(module, {k[6:]: v for k, v in self.tensors.items() if k.startswith("model.")})
        except (RuntimeError, ValueError) as error:
            raise checkpoint.CheckpointError(
                f"{self.file} does not fit this training ({error}); remove it and run again"
            ) from error

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            parameters = self.spec.model_dump(mode="json")
            self.live = LiveLog(self.label, self.file.parent, self.rows, parameters)
            self.reporter = ProgressReporter(self.label, self.start, self.spec.steps)
        if self.fused:  # before states are loaded, whose step counts then move to the device
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["fused"] = True
        if not self.tensors:
            return
        self.restore(module)
        for number, optimizer in enumerate(trainer.optimizers):
            states: dict[int, dict[str, torch.Tensor]] = {}
            trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for name, tensor in self.tensors.items():
                if name.startswith(f"optimizer.{number}."):
                    index, key = name.split(".")[2:]
                    # Step counts are numbers; the others have the shape of the parameter.
                    sharded = shard_like(tensor, trained[int(index)]) if tensor.ndim else tensor
                    states.setdefault(int(index), {})[key] = sharded
            optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
        self.tensors = {}
        if trainer.is_global_zero:
            print(f"[{self.label}] resumes at step {self.start} of {self.spec.steps}", file=sys.stderr, flush=True)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        step = self.start + index
        assert isinstance(module, TrainedModule)
        module.step, ranks = step, trainer.world_size
        torch.manual_seed(fold_in(self.spec.seed, step, 2, trainer.global_rank))
        if ranks > 1:  # rank 0's numbers, on all ranks
            common = torch.Generator().manual_seed(fold_in(self.spec.seed, step, 2, 0))
            module.shard = BatchShard(trainer.global_rank, ranks, common)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.spec, step) * group.get("lr_scale", 1.0)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Average the gradients over ranks, once for all micro-batches, and clip them. They are unscaled already."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        # FSDP averages the gradients of sharded weights in the backward pass.
        average_gradients(parameter for parameter in parameters if not is_sharded(parameter))
        if self.spec.gradient_clip:
            torch.nn.utils.clip_grad_norm_(parameters, self.spec.gradient_clip)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        step = self.start + index + 1
        if step % self.spec.log_every == 0 or step == self.spec.steps:
            local = {key: float(value) for key, value in trainer.callback_metrics.items()}
            logs = mean_over_ranks(local, module.device)
            if not all(map(math.isfinite, logs.values())):
                raise ValueError(
                    f"{self.label}: {', '.join(k for k, v in logs.items() if not math.isfinite(v))} is not finite at "
                    f"step {step}; lower training.learning_rate or set training.gradient_clip, and run again"
                )
            self.rows.append(curve_row(step, **logs))
            if trainer.is_global_zero:
                write_tsv(self.curves, self.rows)
                self._log_live(module, step, logs)
        if step % self.spec.checkpoint_every == 0 and step < self.spec.steps:
            self.write(trainer, module, step)
        if self.reporter is not None:
            self.reporter.report(step, self.rows[-1] if self.rows else {})

    def _log_live(self, module: lightning.LightningModule, step: int, logs: Mapping[str, float]) -> None:
        """Write the values of a log step, with learning rate, speed and phase times, to the live loggers."""
        assert isinstance(module, TrainedModule)
        now, steps = time.monotonic(), step - self.last_step
        seconds = (now - self.last_log) / steps
        live = {
            "learning_rate": learning_rate(self.spec, step - 1),
            "seconds_per_step": seconds,
            "samples_per_second": self.spec.batch_size / seconds,
            **{f"seconds/{name}": value / steps for name, value in sorted(module.phase_seconds.items())},
        }
        module.phase_seconds.clear()
        self.last_log, self.last_step = now, step
        if self.live is not None:
            self.live.write(step, {**logs, **live})

    def on_exception(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._close("failed")

    def _close(self, status: str) -> None:
        """End progress and live loggers with `success` or `failed`."""
        if self.reporter is not None:
            self.reporter.close()
        if self.live is not None:
            self.live.close(status)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._close("success")
        # For the stage, if this is a rank; and a stage that is killed later does not train again.
        self.write(trainer, module, self.spec.steps, finished=True)

    def write(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, step: int, *, finished: bool = False
    ) -> None:
        """Write the scratch checkpoint after `step` steps; that of a `finished` training has no optimizer states.

        All ranks call it, because they gather sharded weights together; rank 0 writes.
        """
        tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
        for number, optimizer in enumerate([] if finished else trainer.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    value = value if isinstance(value, torch.Tensor) else torch.tensor(value)
                    tensors[f"optimizer.{number}.{index}.{key}"] = value
        tensors = gather_on_cpu(tensors, keep=trainer.is_global_zero)
        if trainer.is_global_zero:
            metadata = {"step": step, "rows": self.rows} | ({"finished": True} if finished else {})
            checkpoint.save_scratch(self.file, tensors, **metadata)


class ReplicatedStrategy(DDPStrategy):
    """Ranks with a process group and no wrapper around the module.

    DDP's wrapper averages gradients once in each backward pass. Modules with two optimizers, or with several
    micro-batches for one step, need that once before each optimizer step: `TrainingProgress` does it.
    """

    def configure_ddp(self) -> None:
        """Leave the module as it is."""


def fit(
    module: TrainedModule,
    dataset: Dataset[Any],
    spec: TrainingSpec,
    device: DeviceSpec,
    *,
    label: str,
    scratch: Path,
    curves: Path,
    callbacks: tuple[Callback, ...] = (),
    micro_batches: int = 1,
) -> None:
    """Train a module for `spec.steps` steps, resuming from a scratch checkpoint if there is one.

    Samples are drawn with replacement. With 0 steps the module stays as it is, and the curve is empty. On several
    devices it starts ranks, waits for them and loads what they have trained; in a rank it ends the process.

    Args:
        module: Left on the CPU or on the device of the training, with the trained weights.
        dataset: Samples by number.
        spec: Steps, batches, learning rate.
        device: Devices and precision.
        label: Names the training in messages, and among the trainings of a stage.
        scratch: The folder of this training's scratch checkpoint.
        curves: The file of the training curve.
        callbacks: Further Lightning callbacks.
        micro_batches: Parts in which each device computes the gradient of a step.

    Raises:
        ValueError: The dataset is empty, a logged value is not finite, or a batch cannot be divided.
        CheckpointError: A scratch checkpoint cannot be written.
        StageError: A rank failed.
    """
    if spec.steps == 0:
        write_text(curves, "step\n")
        return
    size = len(dataset)  # type: ignore[arg-type]
    if size == 0:
        raise ValueError(f"{label}: there are no training samples; record more episodes or shorten the segment")
    module.micro_batches = micro_batches
    progress = TrainingProgress(spec, label, scratch, curves, device.fused_adamw)
    if not progress.finished:
        if device.ranks == 1 or is_rank():
            _train(module, dataset, size, spec, device, progress, callbacks)
        else:
            run_ranks(device, label)
        if is_rank() and os.environ[TRAINING] == label:
            torch.distributed.destroy_process_group()
            raise SystemExit(0)
        if device.ranks > 1:
            progress = TrainingProgress(spec, label, scratch, curves)
    if progress.finished:
        progress.restore(module)
        module.step = spec.steps - 1
    write_tsv(curves, progress.rows)


def _train(
    module: TrainedModule,
    dataset: Dataset[Any],
    size: int,
    spec: TrainingSpec,
    device: DeviceSpec,
    progress: TrainingProgress,
    callbacks: tuple[Callback, ...],
) -> None:
    """Train in this process, alone or as a rank."""
    keep_memory()
    environment: ClusterEnvironment
    strategy: Strategy | Literal["auto"]
    if is_rank():
        slurm = "RANK" not in os.environ
        environment = SLURMEnvironment(auto_requeue=False) if slurm else TorchElasticEnvironment()
        strategy = ReplicatedStrategy()
        if device.weight_shards > 1 and module.shardable_models():
            strategy = ModelParallelStrategy(data_parallel_size=device.ranks, tensor_parallel_size=1)
    else:  # variables of a SLURM job or of torchrun around a stage of one process mean nothing to it
        environment, strategy = LightningEnvironment(), "auto"
    with suppress_output(), training_numerics(device):
        trainer = lightning.Trainer(
            accelerator="gpu" if device.accelerator == "cuda" else "cpu",
            devices=device.devices,
            num_nodes=device.nodes,
            strategy=strategy,
            plugins=[environment],
            precision=device.precision,
            max_epochs=1,
            callbacks=[progress, *callbacks],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            deterministic=device.deterministic and ("warn" if device.accelerator == "cuda" else True),
        )
        batches = StepBatches(size, spec, progress.start, trainer.global_rank, trainer.world_size)
        workers = device.loader_workers
        # One batch ahead for each process: batches of videos at the paper's size have gigabytes.
        loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, prefetch_factor=1 if workers else None)
        module.train()
        try:
            trainer.fit(module, loader)
        except SIGTERMException:
            # Lightning's exception would end the process with status 0, and DVC would consider the stage finished.
            raise SystemExit(128 + signal.SIGTERM) from None
