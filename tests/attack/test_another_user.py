"""A checkout, caches and results that belong to another user: what may be read is read, all else is one line."""

import io
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

import stages.compose
from roboalign import checkpoint
from roboalign import run as runs
from roboalign.__main__ import main
from roboalign.annotate.answers import Answers
from roboalign.io import write_json
from roboalign.reward.spec import RewardSpec
from roboalign.sources.errors import SourceError
from tests.attack.test_attacked_data_sets import TARGETS, read_all

ROOT = Path(__file__).parents[2]
SIX = RewardSpec.model_validate(yaml.safe_load((ROOT / "specs/reward/six.yaml").read_text()))
NOBODY = 65534
Call = Callable[[], object]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="roboalign-shared-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):  # what a test has closed to its owner
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Import beforehand what the commands import: the stranger may not be able to read the installed Python."""
    for command in ("check", "show", "plan", "schema --check", "use absent"):
        printed(partial(main, command.split()))


def close(path: Path, mode: int) -> None:
    """Take rights from a file, or from a folder and all below it."""
    for each in sorted([path, *path.rglob("*")], reverse=True) if path.is_dir() else [path]:
        each.chmod(mode | (0o111 if each.is_dir() and mode & 0o444 else 0))


def as_stranger(call: Call) -> str:
    """What a call prints, or its error's text, run by a user who owns none of the files.

    Root may do everything, so that the call runs as `nobody` then, in a process of its own. Another user owns the
    files of the test: there, rights that are taken from the owner do the same.
    """
    if os.geteuid() != 0:
        return printed(call)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            text = printed(call)
        except BaseException:
            text = traceback.format_exc()
        with os.fdopen(writing, "w") as pipe:
            pipe.write(text)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def printed(call: Call) -> str:
    """What a call prints and returns, on one of its own errors that error's text; others come as a traceback."""
    output = io.StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(output):
            code = call()
    except (checkpoint.CheckpointError, SourceError, OSError, SystemExit) as error:
        return f"{output.getvalue()}{type(error).__name__}: {error}"
    except Exception:
        return output.getvalue() + traceback.format_exc()
    return f"{output.getvalue()}returned {code}"


@pytest.fixture
def checkout(shared: Path) -> Path:
    """A checkout that its user may only read."""
    for name in ("specs", "build"):
        shutil.copytree(ROOT / name, shared / "checkout" / name)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, shared / "checkout")
    close(shared / "checkout", 0o444)
    return shared / "checkout"


def test_the_stranger_is_one(shared: Path) -> None:
    (shared / "own").write_text("own")
    close(shared / "own", 0o000)
    assert "PermissionError" in as_stranger((shared / "own").read_text)
    close(shared, 0o555)
    assert "PermissionError" in as_stranger(lambda: (shared / "new").write_text("new"))


@pytest.mark.parametrize("command", ["check", "show", "plan", "schema --check", "check smoke", "show rollout"])
def test_a_checkout_that_may_only_be_read_is_read(checkout: Path, command: str) -> None:
    words = ["--root", str(checkout), *command.split()]
    expected = printed(lambda: main(words))
    assert expected.endswith("returned 0")
    assert as_stranger(lambda: main(words)) == expected


@pytest.mark.parametrize("command", ["use smoke", "schema"])
def test_what_cannot_be_written_is_named_in_one_line(checkout: Path, command: str) -> None:
    (checkout / "specs/.schema").chmod(0o755)
    (checkout / "specs/.schema/rl.json").unlink()
    (checkout / "specs/.schema").chmod(0o555)
    before = (checkout / "params.yaml").read_bytes()
    text = as_stranger(lambda: main(["--root", str(checkout), *command.split()]))
    assert text.startswith("error: [Errno 13] Permission denied: '")
    assert text.count("\n") == 1
    assert text.endswith("returned 1")
    assert (checkout / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("file", ["params.yaml", "specs/rollout/w6.yaml", "dvc.yaml"])
@pytest.mark.parametrize("command", ["check", "plan", "show"])
def test_a_file_that_may_not_be_read_is_named(checkout: Path, file: str, command: str) -> None:
    close(checkout / file, 0o000)
    text = as_stranger(lambda: main(["--root", str(checkout), command]))
    assert "Traceback" not in text
    if "returned 0" not in text:
        assert file in text


def test_compose_names_what_it_cannot_write(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close(checkout / "build", 0o755)
    (checkout / "build/spec/rl.yaml").write_text("")
    close(checkout / "build", 0o555)
    monkeypatch.chdir(checkout)
    monkeypatch.setattr("roboalign.__file__", str(checkout / "roboalign/__init__.py"))
    text = as_stranger(stages.compose.main)
    assert "[compose] error: [Errno 13] Permission denied" in text
    assert text.endswith("returned 1")
    assert (checkout / "build/spec/rl.yaml").read_text() == ""


def test_a_stage_says_which_file_is_not_its_own(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(sys, "argv", ["toy"])
    monkeypatch.setattr(runs, "read_stage", lambda name, item: runs.Run(name, item, {}, (), ()))
    monkeypatch.setattr(runs, "require_checkout", lambda: None)
    for scratch in (None, 0o700, 0o755):  # there is none; another user's, closed; another user's, open to be read
        if scratch is not None:
            checkout.chmod(0o755)
            (checkout / ".scratch").mkdir(exist_ok=True)
            (checkout / ".scratch/toy.lock").touch(0o600)
            close(checkout / ".scratch/toy.lock", 0o400)
            (checkout / ".scratch").chmod(scratch if os.geteuid() == 0 else 0o555)
            checkout.chmod(0o555)
        lines = as_stranger(lambda: runs.execute("toy", lambda run: None)).splitlines()
        assert lines[0].startswith("[toy] error: [Errno 13] Permission denied: '.scratch"), lines
        assert lines[1:] == ["SystemExit: 1"]


def test_models_and_answers_of_another_user(shared: Path) -> None:
    folder = shared / "results"
    checkpoint.save(folder / "model", {"a": torch.zeros(3)})
    write_json(folder / "metrics.json", {"a": 1.0})
    (folder / "answers.jsonl").write_text("")
    close(folder, 0o444)
    assert as_stranger(lambda: checkpoint.load(folder / "model")[0]["a"].sum().item()) == "returned 0.0"
    saved = as_stranger(lambda: checkpoint.save(folder / "model", {"a": torch.ones(3)}))
    assert saved.startswith(f"CheckpointError: {folder / 'model'}: cannot be written ([Errno 13]")
    assert "PermissionError" in as_stranger(lambda: write_json(folder / "metrics.json", {"a": 2.0}))
    assert "PermissionError" in as_stranger(lambda: Answers(folder / "answers.jsonl", SIX, ["0" * 16]))
    close(folder / "model", 0o000)
    text = as_stranger(lambda: checkpoint.load(folder / "model"))
    assert text.startswith(f"CheckpointError: {folder / 'model'}: cannot be read (")
    close(folder / "model", 0o444)
    assert not checkpoint.load(folder / "model")[0]["a"].any()
    assert sorted(path.name for path in folder.iterdir()) == ["answers.jsonl", "metrics.json", "model"]


def test_a_data_set_and_a_cache_of_another_user(shared: Path) -> None:
    target = TARGETS["npz"]
    target.write(shared / "data")
    spec = target.spec(shared / "data")
    assert len(read_all(spec, shared / "own_cache")[0]) == 3
    close(shared / "data", 0o444)
    (shared / "cache").mkdir()
    (shared / "cache").chmod(0o555)
    cached = as_stranger(lambda: len(read_all(spec, shared / "cache")[0]))
    assert cached == "returned 3" or ("cache" in cached and "Traceback" not in cached), cached
    close(shared / "data/train_eps_00000001.npz", 0o000)
    text = as_stranger(lambda: len(read_all(spec, shared / "cache")[0]))
    assert "train_eps_00000001.npz" in text
    assert "Traceback" not in text
