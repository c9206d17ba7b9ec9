import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from roboalign import run as runs
from roboalign.checkpoint import CheckpointError
from roboalign.hardware.spec import DeviceSpec, ProcessesSpec

GRAPH = """
stages:
  toy:
    cmd: python -m stages.toy
    deps: [data, code.py]
    params:
      - build/spec/hardware.yaml: [hardware.device]
    outs: [artifacts/toy]
    metrics:
      - metrics/toy.json: {cache: false}
  episodes:
    matrix: {source: [a, b]}
    cmd: python -m stages.episodes ${item.source}
    params:
      - build/spec/sources.yaml: ["sources.${item.source}"]
    outs: ["artifacts/episodes/${item.source}"]
  judge:
    matrix: {judge: [judge, held_out]}
    cmd: python -m stages.judge ${item.judge}
    deps: ["artifacts/probe/${item.judge}"]
    params:
      - build/spec/${item.judge}.yaml: ["${item.judge}"]
    outs: ["artifacts/${item.judge}"]
    metrics:
      - metrics/${item.judge}.json: {cache: false}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "build/spec").mkdir(parents=True)
    (tmp_path / "build/spec/hardware.yaml").write_text(
        "hardware: {device: {threads: 1}, executor: {kind: processes, workers: 3}, loggers: [], "
        "limits: {memory_gb: 4.0}}"
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").write_text("1")
    (tmp_path / "code.py").write_text("pass")
    return tmp_path


def test_a_stage_gets_what_it_declares(project: Path) -> None:
    run = runs.read_stage("toy", root=project)
    assert run.section("hardware.device", DeviceSpec) == DeviceSpec(threads=1)
    assert run.input("data/x").read_text() == "1"
    assert run.output("artifacts/toy/model").parent.is_dir()
    assert run.output("metrics/toy.json").parent.is_dir()
    assert run.section("hardware.executor", ProcessesSpec).workers == 3


def test_a_stage_gets_nothing_else(project: Path) -> None:
    run = runs.read_stage("toy", root=project)
    for get, what in (
        (lambda: run.section("hardware.limits", DeviceSpec), "params"),
        (lambda: run.input("specs"), "deps"),
        (lambda: run.output("artifacts/other"), "outs"),
    ):
        with pytest.raises(runs.StageError, match=f"declare it under `{what}`"):
            get()
    (project / "data/x").unlink()
    with pytest.raises(runs.StageError, match="missing"):
        run.input("data/x")


def test_the_item_of_a_matrix_is_filled_in(project: Path) -> None:
    run = runs.read_stage("episodes", "a", project)
    assert run.label == "episodes@a"
    assert run.outputs == (Path("artifacts/episodes/a"),)
    assert list(run.sections) == ["sources.a"]
    held_out = runs.read_stage("judge", "held_out", project)
    assert held_out.label == "judge@held_out"
    assert held_out.sections == {"held_out": Path("build/spec/held_out.yaml")}
    assert held_out.inputs == (Path("artifacts/probe/held_out"),)
    assert held_out.outputs == (Path("artifacts/held_out"), Path("metrics/held_out.json"))
    for name, item in (("episodes", ""), ("toy", "a"), ("absent", "")):
        with pytest.raises(runs.StageError):
            runs.read_stage(name, item, project)


def test_scratch_is_keyed_by_sections_inputs_and_code(project: Path) -> None:
    run = runs.read_stage("toy", root=project)
    seen = {run.scratch}
    (project / "data/x").write_text("2")
    seen.add(run.scratch)
    (project / "code.py").write_text("print()")
    seen.add(run.scratch)
    file = project / "build/spec/hardware.yaml"
    file.write_text(file.read_text().replace("threads: 1", "threads: 2"))
    seen.add(run.scratch)
    assert len(seen) == 4
    file.write_text(file.read_text().replace("workers: 3", "workers: 5"))
    assert run.scratch in seen
    run.clear_scratch()
    assert not any(folder.exists() for folder in seen)


def test_one_process_holds_the_lock(project: Path) -> None:
    run = runs.read_stage("toy", root=project)
    lock = runs.acquire(run)
    with pytest.raises(runs.StageError, match="another process"):
        runs.acquire(run)
    lock.close()
    runs.acquire(run).close()


def test_code_from_outside_the_checkout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.require_checkout()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(runs.StageError, match="not from this checkout"):
        runs.require_checkout()


@pytest.mark.parametrize(
    "error", [CheckpointError("a: is\ndamaged"), ValueError("a: is\n  damaged"), OSError("a: is damaged")]
)
def test_errors_are_printed_in_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def main(run: runs.Run) -> None:
        raise error

    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["toy"])
    monkeypatch.setattr(runs, "require_checkout", lambda: None)
    with pytest.raises(SystemExit, match="1"):
        runs.execute("toy", main)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "[toy] error: a: is damaged (ROBOALIGN_TRACEBACK=1 shows where)"
    ]


def test_a_trainer_dies_with_the_dvc_that_started_it(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        textwrap.dedent("""
        import os, sys, time
        from roboalign.run import die_with_parent
        die_with_parent()
        print(os.getpid(), flush=True)
        time.sleep(60)
        """)
    )
    parent = tmp_path / "dvc"
    parent.write_text(f"import subprocess; subprocess.run([{sys.executable!r}, {str(child)!r}])")
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen([sys.executable, str(parent)], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            break
        time.sleep(0.1)
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the child outlived its dvc")
    process.stdout.close()
