"""Runs independent pieces of work in several processes of this machine, or on a cluster.

Results come in the order of the work, so the number of workers does not change them.
"""

import multiprocessing
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, assert_never

from roboalign.errors import StageError, require_extra
from roboalign.hardware.spec import DaskSpec, ExecutorSpec, ProcessesSpec

Work = TypeVar("Work")
Result = TypeVar("Result")

TIMEOUT = "30s"
"""How long a scheduler may take to answer."""
RETRIES = 2
"""How often a piece is tried again whose cluster worker was lost."""
AHEAD = 2
"""Pieces per process that are submitted before the first of them is taken."""


class Workers(ABC):
    """Workers that stay for several sequences of work, so that each loads its models once."""

    @abstractmethod
    def map(self, function: Callable[[Work], Result], work: Sequence[Work]) -> Generator[Result]:
        """The results of `function` over `work`, in order, as soon as each and all before it are there.

        With more than one worker `function` must be importable and `work` and results picklable. An error in a worker
        is raised here, and the work that has not begun is dropped; so it is where the iterator is closed.
        """

    @abstractmethod
    def close(self) -> None:
        """End the workers."""


@contextmanager
def open_workers(executor: ExecutorSpec) -> Iterator[Workers]:
    """The workers of an executor, which start when they are needed and end with the context."""
    workers: Workers
    match executor:
        case ProcessesSpec():
            workers = _Processes(executor)
        case DaskSpec():
            workers = _Cluster(executor)
        case _:
            assert_never(executor)
    try:
        yield workers
    finally:
        workers.close()


def run_all(executor: ExecutorSpec, function: Callable[[Work], Result], work: Sequence[Work]) -> Generator[Result]:
    """The results of `Workers.map` by workers of its own, no more than there are pieces."""
    if isinstance(executor, ProcessesSpec):
        count = min(executor.workers or os.cpu_count() or 1, max(1, len(work)))
        executor = executor.model_copy(update={"workers": count})
    with open_workers(executor) as workers:
        yield from workers.map(function, work)


class _Processes(Workers):
    """A pool of processes of this machine; with one worker, or for one piece, this process itself."""

    def __init__(self, spec: ProcessesSpec) -> None:
        self.count = spec.workers or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[Work], Result], work: Sequence[Work]) -> Generator[Result]:
        if self.count == 1 or len(work) < 2:
            yield from map(function, work)
            return
        if self._pool is None:
            # Renderers and their threads do not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, context, initializer=_end_with, initargs=(os.getpid(),))
        submitted: deque[Future[Result]] = deque()
        try:
            for item in work:
                submitted.append(self._pool.submit(function, item))
                if len(submitted) > AHEAD * self.count:  # so that results do not pile up in memory
                    yield submitted.popleft().result()
            while submitted:
                yield submitted.popleft().result()
        finally:
            for future in submitted:
                future.cancel()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


class _Cluster(Workers):
    """The workers of a dask scheduler, or of a cluster on this machine."""

    def __init__(self, spec: DaskSpec) -> None:
        """Raises StageError if dask is not installed or the scheduler does not answer."""
        with require_extra("cluster", "hardware.executor.kind dask"):
            import distributed
        self._cluster: Any = None
        if spec.scheduler == "local":
            # One thread each: simulators and their renderers are not safe to share between threads.
            options = {"threads_per_worker": 1, "dashboard_address": None}
            self._cluster = distributed.LocalCluster(n_workers=spec.workers or os.cpu_count(), **options)
            self._client: Any = distributed.Client(self._cluster)
            return
        try:
            self._client = distributed.Client(spec.scheduler, timeout=TIMEOUT)
        except (OSError, TimeoutError, ValueError) as error:
            raise StageError(
                f"the scheduler hardware.executor.scheduler {spec.scheduler} does not answer ({error}); "
                "start it, or correct the address"
            ) from None

    def map(self, function: Callable[[Work], Result], work: Sequence[Work]) -> Generator[Result]:
        futures: list[Any] = []
        try:
            futures += [self._client.submit(function, item, pure=False, retries=RETRIES) for item in work]
            for number, future in enumerate(futures):
                yield future.result()
                futures[number] = None  # so that the cluster forgets the result
        finally:
            self._client.cancel([future for future in futures if future is not None and not future.done()])

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _end_with(parent: int) -> None:
    """End this worker when its parent is gone: a killed stage must not leave workers behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(137)

    threading.Thread(target=watch, daemon=True).start()
