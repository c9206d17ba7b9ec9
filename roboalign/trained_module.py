"""The base of the parts' Lightning modules: a step's gradient in micro-batches, its random numbers, its phases."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from roboalign.distributed import BatchShard, average_over_ranks
from roboalign.sharded_weights import shard_weights

Loss = tuple[Tensor, Mapping[str, Tensor]]
"""A loss, with gradients, and what the curve shows, by name."""


class TrainedModule(lightning.LightningModule):
    """Base of the parts' Lightning modules: takes optimizer steps along gradients of batches in micro-batches.

    `step` is the current step's number, set before each batch. A subclass defines `batch_loss`, or, for several
    optimizers or losses that depend on the whole batch, its own `training_step` with `optimize` or `accumulate`.

    Scratch checkpoints hold `state_dict()` (parameters and buffers, including replay buffers) and the state of the
    optimizers that `configure_optimizers` returns. Frozen collaborators must be kept out of both.

    Random numbers of a step come from `shard`, so that they do not depend on the number of devices and micro-batches.
    A loss must be a mean over the samples of its batch. If it divides by something else, such as a sum of weights, it
    must divide by the `mean_over_shards` of that.
    """

    step: int = 0
    shard: BatchShard = BatchShard()
    """The rows of the global batch that this rank, or the micro-batch at hand, has."""
    micro_batches: int = 1
    """Parts in which the gradient of a step is computed."""

    def __init__(self) -> None:
        super().__init__()
        # Gradients of several micro-batches, and of several optimizers, are accumulated here, not by Lightning.
        self.automatic_optimization = False
        self.phase_seconds: dict[str, float] = {}
        """Wall-clock seconds of the phases of the steps since the last log, which live loggers show."""

    @contextmanager
    def time_phase(self, name: str) -> Iterator[None]:
        """Count the time of a `with` block as a phase of the step."""
        started = time.monotonic()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.phase_seconds[name] = self.phase_seconds.get(name, 0.0) + time.monotonic() - started

    def shardable_models(self) -> Sequence[nn.Module]:
        """The models whose weights the strategy `fsdp` shards; the others are whole on every device."""
        return ()

    def configure_model(self) -> None:
        """Shard the weights, if the strategy does. Lightning calls it in each rank, before the optimizers are made."""
        if self.device_mesh is not None:
            for model in self.shardable_models():
                shard_weights(model, self.device_mesh["data_parallel"])

    def batch_loss(self, batch: Any) -> Loss:
        """The mean loss of the samples of a micro-batch."""
        raise NotImplementedError

    def training_step(self, batch: Any, index: int) -> None:
        """Take the step of a batch."""
        self.optimize(batch, self.batch_loss)

    def optimize(self, batch: Any, loss: Callable[[Any], Loss]) -> None:
        """Take a step of the only optimizer along the gradient of a batch, and log the values of its loss."""
        (optimizer,) = self.trained_optimizers()
        optimizer.zero_grad()
        logs = self.accumulate(batch, loss)
        optimizer.step()
        self.log_dict(logs)

    def trained_optimizers(self) -> list[LightningOptimizer]:
        """The optimizers of `configure_optimizers`; before a step, gradients are averaged over ranks and clipped."""
        optimizers = self.optimizers()
        return cast(list[LightningOptimizer], optimizers if isinstance(optimizers, list) else [optimizers])

    def accumulate(self, batch: Any, loss: Callable[[Any], Loss]) -> dict[str, Tensor]:
        """Add the gradient of a batch's mean loss to the parameters', one micro-batch after another.

        Args:
            batch: This rank's samples: a tensor or a sequence, or a mapping of those by name.
            loss: The loss of a micro-batch, whose rows are those of `shard` while it is called.

        Returns:
            The values to log, the mean over micro-batches.

        Raises:
            ValueError: The batch cannot be divided into `micro_batches` parts.
        """
        whole, count = self.shard, self.micro_batches
        shards, logs = whole.split(count), dict[str, Tensor]()
        try:
            for number, self.shard in enumerate(shards):
                value, shown = loss(batch if count == 1 else strided_rows(batch, number, count))
                self.manual_backward(value / count)
                for name, each in shown.items():
                    mean = each.detach() / count
                    logs[name] = logs[name] + mean if name in logs else mean
        finally:
            self.shard = whole
        if count > 1:  # what is drawn next, for another loss of the step, is as after the whole batch
            whole.generator.set_state(shards[0].generator.get_state())
        return logs

    def mean_over_shards(self, value: Tensor) -> Tensor:
        """The mean over all micro-batches of all ranks, given a sum over this rank's batch."""
        return average_over_ranks(value / self.micro_batches)


def strided_rows(batch: Any, start: int, stride: int) -> Any:
    """The rows `start`, `start + stride`, ... of a tensor or sequence, or of each of a mapping.

    Raises ValueError if the number of rows is not divisible by `stride`.
    """
    if isinstance(batch, Mapping):
        return {name: strided_rows(value, start, stride) for name, value in batch.items()}
    if len(batch) % stride:
        raise ValueError(
            f"a device has {len(batch)} samples of a step, which hardware.micro_batches ({stride}) must divide"
        )
    return batch[start::stride]
