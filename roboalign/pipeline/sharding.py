"""Work of torch models that splits by episode, on the workers of `hardware.executor` or on several GPUs.

A piece of work gives the same bits whoever does it: it computes with one CPU thread, since sums over several threads
may be added in another order, and it draws no global random numbers.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from roboalign.executor import Workers, open_workers
from roboalign.hardware.spec import ExecutorSpec, ProcessesSpec
from roboalign.run import Run, require_accelerator, set_determinism

MIN_CLIPS = 256
"""Clips from which several workers generate or score them: each has to load the models, which takes longer than fewer
clips."""

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ModelExecutor:
    """Shares pieces of work out to workers that stay, so that each loads its models once. On GPUs there is one process
    for each device."""

    workers: Workers
    devices: tuple[str, ...] = ("cpu",)
    """The names of the devices, which pieces take in turn."""

    @classmethod
    @contextmanager
    def of(cls, run: Run) -> Iterator["ModelExecutor"]:
        """The executor of a stage that declares at least `hardware.device.accelerator`."""
        accelerator: str = run.section("hardware.device.accelerator", str)
        require_accelerator(accelerator)
        spec: ExecutorSpec = run.section("hardware.executor", ExecutorSpec)
        devices: tuple[str, ...] = (accelerator,)
        if accelerator != "cpu":
            count: int = run.section("hardware.device.devices", int)
            devices = tuple(f"{accelerator}:{number}" for number in range(count)) if count > 1 else devices
            if isinstance(spec, ProcessesSpec):
                spec = spec.model_copy(update={"workers": len(devices)})
        with open_workers(spec) as workers:
            yield cls(workers, devices)

    def map(
        self, function: Callable[[Work, torch.device], Result], work: Sequence[Work], *, in_process: bool = False
    ) -> Generator[Result]:
        """The results of `function(piece, device)` in the order of the pieces.

        `function` must be importable, pieces and results picklable. An error in a worker is raised here. `in_process`
        lets this process do all of it, with the same results.
        """
        if in_process:
            for piece in work:
                yield _OnDevice(function)((piece, self.devices[0]))
            return
        placed = [(piece, self.devices[number % len(self.devices)]) for number, piece in enumerate(work)]
        with closing(self.workers.map(_OnDevice(function), placed)) as results:
            yield from results


@dataclass(frozen=True)
class _OnDevice(Generic[Work, Result]):
    """`function` on a piece of work and the name of its device."""

    function: Callable[[Work, torch.device], Result]

    def __call__(self, placed: tuple[Work, str]) -> Result:
        piece, device = placed
        set_determinism(device)
        with one_thread():
            return self.function(piece, torch.device(device))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one CPU thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
