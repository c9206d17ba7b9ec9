"""Doing many independent pieces of work on several processes of this machine.

The results come back in the order of the work, whatever process did which piece: the number of workers never changes
them.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from roboalign.hardware.spec import ProcessesSpec

Work = TypeVar("Work")
Result = TypeVar("Result")


def run_all(executor: ProcessesSpec, function: Callable[[Work], Result], work: Sequence[Work]) -> Iterator[Result]:
    """The results of `function` over `work`, in order, as soon as each and all before it are there.

    With more than one worker `function` must be importable and `work` and results picklable. An error in a worker is
    raised here, and the work that has not begun is dropped.
    """
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


def _end_with(parent: int) -> None:
    """End this worker when its parent is gone: a killed stage must not leave recorders behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(137)

    threading.Thread(target=watch, daemon=True).start()
