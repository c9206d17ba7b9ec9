"""A full disk, a read-only folder, two runs at once: one line that names the file, and nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from roboalign import checkpoint
from roboalign import run as runs
from roboalign.annotate.answers import Answers
from roboalign.bench.annotations import read_annotations
from roboalign.io import write_json, write_text
from roboalign.reward.spec import RewardSpec
from roboalign.training import fit
from tests.attack.conftest import Tell
from tests.test_run import GRAPH
from tests.test_training import DEVICE, SPEC, Killed, Line, Numbers

SIX = RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))
CLIPS = [f"{number:016x}" for number in range(5000)]


def line(clip: str, points: float = 1.0) -> str:
    scores = dict.fromkeys(SIX.names, points)
    row = {"clip": clip, "rater": "anna", "kind": "person", "scores": scores, "comment": "x" * 1000}
    return json.dumps(row)


def fill(folder: Path) -> None:
    """Fill what is left of a disk."""
    with (folder / "filling").open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass


def test_answers_on_a_full_disk(small_disk: Path) -> None:
    saved: list[str] = []
    with Answers(small_disk / "answers.jsonl", SIX, CLIPS) as answers:
        for clip in CLIPS:
            try:
                answers.add(line(clip))
            except OSError:
                break
            saved.append(clip)
        assert 20 < len(saved) < len(CLIPS)
        for again in (line(CLIPS[len(saved)]), line(saved[0], 0.5)):  # a new answer, and a changed one
            for _ in range(2):
                with pytest.raises(OSError, match=r"No space|too large"):
                    answers.add(again)
        assert len(answers) == len(saved)
    assert [row.clip for row in read_annotations([str(small_disk / "answers.jsonl")], SIX)] == saved
    assert all(row.scores[SIX.names[0]] == 1 for row in read_annotations([str(small_disk / "answers.jsonl")], SIX))


class Large(Line):
    """A training whose scratch checkpoint does not fit on the small disk twice."""

    def __init__(self, floats: int, die_at: int | None = None) -> None:
        super().__init__(die_at=die_at)
        self.register_buffer("large", torch.zeros(floats))


@pytest.mark.parametrize("floats", [20_000, 40_000])
def test_scratch_on_a_full_disk(small_disk: Path, tmp_path: Path, floats: int) -> None:
    if floats == 20_000:  # the first checkpoint fits, its successor does not
        with pytest.raises(Killed):
            fit(Large(floats, die_at=4), Numbers(), SPEC, DEVICE, label="large", scratch=small_disk,
                curves=tmp_path / "curve.tsv")  # fmt: skip
        before = (small_disk / "checkpoint.safetensors").read_bytes()
        fill(small_disk)
    else:
        before = b""
    with pytest.raises(checkpoint.CheckpointError, match=r"checkpoint\.safetensors: cannot be written .*free space"):
        fit(Large(floats), Numbers(), SPEC, DEVICE, label="large", scratch=small_disk, curves=tmp_path / "curve.tsv")
    if before:
        assert (small_disk / "checkpoint.safetensors").read_bytes() == before
        assert checkpoint.load_scratch(small_disk / "checkpoint.safetensors")[1]["step"] == 3
    assert {file.name for file in small_disk.iterdir()} <= {"checkpoint.safetensors", "filling"}


def test_artifacts_on_a_full_disk(small_disk: Path) -> None:
    checkpoint.save(small_disk / "model", {"a": torch.zeros(10)})
    write_json(small_disk / "metrics.json", {"a": 1.0})
    write_text(small_disk / "page.html", "page")
    before = {file.name: file.read_bytes() for file in small_disk.iterdir()}
    with pytest.raises(checkpoint.CheckpointError, match="model: cannot be written"):
        checkpoint.save(small_disk / "model", {"a": torch.zeros(100_000)})
    for write in (write_text, write_json):
        with pytest.raises(OSError, match=r"No space|too large"):
            write(small_disk / "page.html", "x" * 300_000)
    assert {file.name: file.read_bytes() for file in small_disk.iterdir()} == before


def test_a_read_only_folder(read_only: Path) -> None:
    with pytest.raises(checkpoint.CheckpointError, match="model: cannot be written"):
        checkpoint.save(read_only / "model", {"a": torch.zeros(10)})
    for write in (
        lambda: write_text(read_only / "kept", "new"),
        lambda: Answers(read_only / "answers.jsonl", SIX, CLIPS),
        lambda: Answers(read_only / "new/answers.jsonl", SIX, CLIPS),
    ):
        with pytest.raises(OSError, match=r"Read-only|denied"):
            write()
    assert {file.name: file.read_text() for file in read_only.iterdir()} == {"kept": "kept"}


STAGE = """
import sys, time
from roboalign import run
run.require_checkout = lambda: None
def main(stage):
    print("runs", flush=True)
    sys.stdin.readline()
run.execute("toy", main)
"""


@pytest.mark.attack
def test_two_runs_at_once(tmp_path: Path, tell: Tell) -> None:
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "build/spec").mkdir(parents=True)
    (tmp_path / "build/spec/hardware.yaml").write_text("hardware: {device: {threads: 1}}")
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", STAGE]
    first = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "runs\n"
    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    first.communicate("\n")
    assert (first.returncode, second.returncode, second.stdout) == (0, 1, "")
    assert second.stderr.splitlines() == [
        "[toy] error: another process runs toy in this checkout; wait for it or end it "
        "(ROBOALIGN_TRACEBACK=1 shows where)"
    ]
    tell("two runs at once", refused=1, finished=1)


def test_a_stage_on_a_read_only_checkout_says_so_in_one_line(
    read_only: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(read_only)
    monkeypatch.setattr(sys, "argv", ["toy"])
    monkeypatch.setattr(runs, "read_stage", lambda name, item: runs.Run(name, item, {}, (), ()))
    monkeypatch.setattr(runs, "require_checkout", lambda: None)
    with pytest.raises(SystemExit, match="1"):
        runs.execute("toy", lambda run: None)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("[toy] error: [Errno ")
    assert ".scratch" in lines[0]
