import os

import pytest

from roboalign.hardware.spec import ProcessesSpec
from roboalign.sources.executor import run_all


def square(number: int) -> tuple[int, int]:
    if number < 0:
        raise ValueError(f"{number} is below 0")
    return number * number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_work(workers: int) -> None:
    executor = ProcessesSpec(kind="processes", workers=workers)
    results = list(run_all(executor, square, [3, 1, 2]))
    assert [value for value, _ in results] == [9, 1, 4]
    assert (os.getpid() in {pid for _, pid in results}) == (workers == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_the_work_is_raised_here(workers: int) -> None:
    executor = ProcessesSpec(kind="processes", workers=workers)
    with pytest.raises(ValueError, match="-1 is below 0"):
        list(run_all(executor, square, [1, -1, 2]))
