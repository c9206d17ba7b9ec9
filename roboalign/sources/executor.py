"""Doing many independent pieces of work: on several processes of this machine, or on a cluster.

The results come back in the order of the work, whoever did which piece: the number of workers never changes them.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar, assert_never

from roboalign.hardware.spec import DaskSpec, ExecutorSpec, ProcessesSpec
from roboalign.sources.errors import SourceError

Work = TypeVar("Work")
Result = TypeVar("Result")

TIMEOUT = "30s"
"""How long a scheduler may take to answer."""
RETRIES = 2
"""How often a piece is tried again whose cluster worker was lost."""


def run_all(executor: ExecutorSpec, function: Callable[[Work], Result], work: Sequence[Work]) -> Generator[Result]:
    """The results of `function` over `work`, in order, as soon as each and all before it are there.

    With more than one worker `function` must be importable and `work` and results picklable. An error in a worker is
    raised here, and the work that has not begun is dropped; so it is where the iterator is closed.
    """
    match executor:
        case ProcessesSpec():
            return _on_processes(executor, function, work)
        case DaskSpec():
            return _on_dask(executor, function, work)
        case _:
            assert_never(executor)


def _on_processes(
    executor: ProcessesSpec, function: Callable[[Work], Result], work: Sequence[Work]
) -> Generator[Result]:
    workers = min(executor.workers or os.cpu_count() or 1, len(work))
    if workers <= 1:
        yield from map(function, work)
        return
    # Renderers and their threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_end_with, initargs=(os.getpid(),))
    try:
        for future in [pool.submit(function, item) for item in work]:
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _on_dask(executor: DaskSpec, function: Callable[[Work], Result], work: Sequence[Work]) -> Generator[Result]:
    try:
        import distributed
    except ImportError:
        raise SourceError(
            "hardware.executor is dask, which is not installed; install the extra `cluster`, or take `processes`"
        ) from None
    if executor.scheduler == "local":
        # One thread each: simulators and their renderers are not safe to share between threads.
        options = {"threads_per_worker": 1, "dashboard_address": None}
        cluster: Any = distributed.LocalCluster(n_workers=executor.workers or os.cpu_count(), **options)
        client: Any = distributed.Client(cluster)
    else:
        cluster = None
        try:
            client = distributed.Client(executor.scheduler, timeout=TIMEOUT)
        except (OSError, TimeoutError, ValueError) as error:
            raise SourceError(
                f"the scheduler hardware.executor.scheduler {executor.scheduler} does not answer ({error}); "
                "start it, or correct the address"
            ) from None
    futures: list[Any] = []
    try:
        futures += [client.submit(function, item, pure=False, retries=RETRIES) for item in work]
        for future in futures:
            yield future.result()
    finally:
        client.cancel([future for future in futures if not future.done()])
        client.close()
        if cluster is not None:
            cluster.close()


def _end_with(parent: int) -> None:
    """End this worker when its parent is gone: a killed stage must not leave recorders behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(137)

    threading.Thread(target=watch, daemon=True).start()
