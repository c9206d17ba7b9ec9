import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from roboalign.errors import StageError
from roboalign.executor import AHEAD, run_all
from roboalign.hardware.spec import DaskSpec, ProcessesSpec


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


def test_results_do_not_pile_up(tmp_path: Path) -> None:
    """However slowly results are taken, only a few pieces are done ahead."""
    notes = [str(tmp_path / str(number)) for number in range(12)]
    results = run_all(ProcessesSpec(kind="processes", workers=2), touch, notes)
    assert next(results) == notes[0]
    time.sleep(0.3)
    assert sum(map(os.path.exists, notes)) <= 1 + 2 * AHEAD
    assert list(results) == notes[1:]


def touch(path: str) -> str:
    Path(path).touch()
    return path


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roboalign.executor.TIMEOUT", "0.2s")
    executor = DaskSpec(kind="dask", scheduler="tcp://127.0.0.1:9")
    with pytest.raises(StageError, match=r"scheduler tcp://127\.0\.0\.1:9 does not answer"):
        list(run_all(executor, str, [1]))


def wait(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def test_workers_end_when_the_recorder_is_killed(tmp_path: Path) -> None:
    script = (
        "from roboalign.hardware.spec import ProcessesSpec\n"
        "from roboalign.executor import run_all\n"
        "from tests.test_executor import wait\n"
        "import sys\n"
        "if __name__ == '__main__':\n"
        "    list(run_all(ProcessesSpec(kind='processes', workers=2), wait, sys.argv[1:]))\n"
    )
    (tmp_path / "recorder.py").write_text(script)
    notes = [tmp_path / "a", tmp_path / "b"]
    root = Path(__file__).parents[1]
    recorder = subprocess.Popen(
        [sys.executable, tmp_path / "recorder.py", *notes], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    )
    until(lambda: all(note.exists() and note.read_text() for note in notes))
    recorder.kill()
    recorder.wait()
    workers = [int(note.read_text()) for note in notes]
    until(lambda: not any(runs(pid) for pid in workers))


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
