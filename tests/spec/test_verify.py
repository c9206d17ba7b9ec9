"""`verify` against a small project whose dvc.lock, cache and remote are written here, and damaged."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils import dict_sha256

from roboalign.__main__ import main
from roboalign.spec.lock import bytes_md5, folder_hash

FILES = {"a": b"alpha", "b/x": b"x", "b/y": b"y", "m.json": b"{}"}
GRAPH = """
stages:
  one:
    cmd: make
    outs: [a, b]
  two:
    cmd: measure
    deps: [a]
    metrics:
      - m.json: {cache: false}
"""
Capture = pytest.CaptureFixture[str]


def store(folder: Path) -> None:
    """Put the objects of all outputs but m.json into a cache or remote."""
    objects = {bytes_md5(FILES[name]): FILES[name] for name in ("a", "b/x", "b/y")}
    rows = [{"md5": bytes_md5(FILES[f"b/{name}"]), "relpath": name} for name in ("x", "y")]
    objects[folder_hash({row["relpath"]: row["md5"] for row in rows})] = json.dumps(rows).encode()
    for value, content in objects.items():
        path = folder / "files/md5" / value[:2] / value[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def listed(*names: str) -> list[dict[str, str]]:
    """Outputs as dvc.lock lists them."""
    hashes = {name: bytes_md5(FILES[name]) for name in ("a", "m.json")}
    hashes["b"] = folder_hash({name: bytes_md5(FILES[f"b/{name}"]) for name in ("x", "y")})
    return [{"path": name, "hash": "md5", "md5": hashes[name]} for name in names]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in which everything is as its stages wrote it."""
    root = tmp_path / "checkout"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "dvc.yaml").write_text(GRAPH)
    record = {
        "one": {"cmd": "make", "outs": listed("a", "b")},
        "two": {"cmd": "measure", "deps": listed("a"), "outs": listed("m.json")},
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": record}))
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    store(root / ".dvc/cache")
    return root


def flip(folder: Path, content: bytes) -> Path:
    """Flip a bit of the object with this content; its path."""
    value = bytes_md5(content)
    path = folder / "files/md5" / value[:2] / value[2:]
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    return path


def verify(root: Path, *options: str) -> int:
    return main(["--root", str(root), "verify", *options])


def test_an_intact_project(project: Path, capsys: Capture) -> None:
    assert verify(project) == 0
    assert capsys.readouterr().out == "all 3 outputs are as written\n"
    assert verify(project, "--cache") == 0
    assert capsys.readouterr().out == "all 3 outputs are as written, in DVC's cache too\n"


@pytest.mark.parametrize("name", ["a", "b/x"])
def test_a_damaged_output_is_named(project: Path, capsys: Capture, name: str) -> None:
    (project / name).write_bytes(b"rotten")
    assert verify(project) == 1
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{name}: is ")


@pytest.mark.parametrize(("level", "inside"), [("config", False), ("config.local", False), ("config", True)])
def test_the_cache_is_where_dvcs_configuration_has_it(project: Path, capsys: Capture, level: str, inside: bool) -> None:
    folder = project.parent / "elsewhere"
    shutil.move(project / ".dvc/cache", folder)
    with (project / ".dvc" / level).open("a") as file:
        file.write(f"[cache]\n    dir = {'../../elsewhere' if inside else folder}\n")
    assert verify(project, "--cache") == 0
    damaged = flip(folder, FILES["b/y"])
    assert verify(project) == 0
    assert verify(project, "--cache") == 1
    assert f"{damaged.resolve()}: (b/y) is damaged; remove it, then `dvc pull`" in capsys.readouterr().out


def test_what_the_cache_lacks_is_named(project: Path, capsys: Capture) -> None:
    flip(project / ".dvc/cache", FILES["a"]).unlink()
    assert verify(project, "--cache") == 1
    assert "is not in DVC's cache; run `dvc commit` or `dvc pull`" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "", "schema: '2.0'\n", "schema: '2.0'\nstages: {}\n", "stages:\n"])
def test_a_lock_without_entries_is_not_an_assurance(project: Path, capsys: Capture, text: str | None) -> None:
    (project / "dvc.lock").unlink() if text is None else (project / "dvc.lock").write_text(text)
    assert verify(project) == 1
    out = capsys.readouterr().out
    assert "one: dvc.lock has no entry of this stage; run `dvc repro one`" in out
    assert "2 of 2 outputs are damaged" in out


def test_a_stage_or_output_without_its_entry_is_named(project: Path, capsys: Capture) -> None:
    record: dict[str, Any] = yaml.safe_load((project / "dvc.lock").read_text())
    del record["stages"]["two"], record["stages"]["one"]["outs"][1], record["stages"]["one"]["outs"][0]["md5"]
    (project / "dvc.lock").write_text(yaml.safe_dump(record))
    assert verify(project) == 1
    assert capsys.readouterr().out.splitlines() == [
        "a: dvc.lock has no hash for it; run `dvc repro one`",
        "b: dvc.lock has no hash for it; run `dvc repro one`",
        "two: dvc.lock has no entry of this stage; run `dvc repro two`, or restore dvc.lock from git",
        "3 of 3 outputs are damaged",
    ]


def test_a_remote_is_downloaded_and_hashed(project: Path, capsys: Capture) -> None:
    remote = project.parent / "remote"
    store(remote)
    with (project / ".dvc/config").open("a") as file:
        file.write(f"['remote \"storage\"']\n    url = {remote}\n")
    assert verify(project, "--remote", "storage") == 0
    assert capsys.readouterr().out == "all 3 outputs are as written, in the remote storage too\n"
    damaged, missing = flip(remote, FILES["b/y"]), flip(remote, FILES["a"])
    missing.unlink()
    assert verify(project) == 0
    assert verify(project, "--remote", "storage") == 1
    out = capsys.readouterr().out
    remedy = "remove it there, then `dvc push -r storage` from a checkout that `verify --cache` passes"
    assert f"{damaged}: (b/y) is damaged; {remedy}" in out
    assert f"{missing}: (a) is missing; {remedy}" in out
    assert verify(project, "--remote", "nowhere") == 2
    assert "the remote 'nowhere' cannot be opened" in capsys.readouterr().err


def test_recorded_runs_are_verified(project: Path, capsys: Capture) -> None:
    run = {"cmd": "make", "deps": listed("a"), "outs": listed("b")}
    folder = project / ".dvc/cache/runs/ab" / ("ab" + "0" * 62)
    folder.mkdir(parents=True)
    file = folder / dict_sha256(run, exclude=["size", "nfiles"])
    file.write_text(yaml.safe_dump(run))
    assert verify(project, "--run-cache") == 0
    assert "all 1 recorded runs are as written" in capsys.readouterr().out
    file.write_text(file.read_text().replace("make", "mend"))
    assert verify(project, "--run-cache") == 1
    assert f"{file}: is damaged; remove it, so that DVC runs the stage again" in capsys.readouterr().out
    file.write_text(yaml.safe_dump(run))
    damaged = flip(project / ".dvc/cache", FILES["b/x"])
    assert verify(project, "--run-cache") == 1
    assert f"{damaged}: (b/x) is damaged" in capsys.readouterr().out


def test_a_damaged_configuration_is_an_error(project: Path, capsys: Capture) -> None:
    (project / ".dvc/config").write_text("[cache\n")
    assert verify(project, "--cache") == 2
    assert ".dvc/config:1:1: error: DVC's configuration:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dvc.yaml", "stages: [1]\n", "'stages' of dvc.yaml must be a mapping"),
        ("dvc.yaml", "stages:\n  one: 3\n", "dvc.yaml:2:3: error: a stage must be a mapping"),
        ("dvc.yaml", "stages:\n  one: {outs: [a]}\n", "missing key 'cmd'"),
        ("dvc.yaml", "stages:\n  one: {cmd: a, outs: 3}\n", "'outs' must be a list"),
        ("dvc.yaml", "stages:\n  one: {cmd: a, deps: [[a]]}\n", "dvc.yaml:2:24: error"),
        ("dvc.yaml", "stages:\n  one: {cmd: a, params: [{b: 3}]}\n", "dvc.yaml:2:"),
        ("dvc.yaml", "stages:\n  one: {cmd: a, matrix: [1]}\n", "`matrix` must be a mapping of lists"),
        ("dvc.yaml", "stages:\n  one: {cmd: a, matrix: {x: 3}}\n", "`matrix` must be a mapping of lists"),
        ("dvc.yaml", "stages:\n  one: {foreach: 3, do: {cmd: a}}\n", "dvc.yaml:2:"),
        ("dvc.yaml", "stages:\n  one: {foreach: [a]}\n", "missing key 'do'"),
        ("dvc.yaml", "stages:\n  one: {cmd: a, wdir: b}\n", "`wdir` is not supported"),
        ("dvc.yaml", "stages:\n  one: {cmd: '${x.y}'}\n", "${x.y} is not in params.yaml"),
        ("dvc.yaml", "\x1b[31m: 3\n", "the character U+001B is not allowed here"),
        ("dvc.lock", "stages: [1]\n", "'stages' of dvc.lock must be a mapping"),
        ("dvc.lock", "stages:\n  one: []\n", "dvc.lock:2:3: error: a stage must be a mapping"),
        ("dvc.lock", "stages:\n  one: {cmd: a, outs: [a]}\n", "dvc.lock:2:24: error"),
        ("dvc.lock", "stages:\n  one: {cmd: a, outs: [{md5: x}]}\n", "missing key 'path'"),
        ("dvc.lock", "stages:\n  one: {cmd: a, outs: [{path: a, md5: ../../etc/passwd}]}\n", "'md5' must match"),
        ("dvc.lock", "stages:\n  one: {cmd: a, params: [b]}\n", "'params' must be a mapping"),
        ("dvc.lock", "stages: {one: {cmd: {a: b}}}\n", "dvc.lock:1:"),
        ("dvc.lock", "\xff\xfe", "UTF-16"),
        ("params.yaml", "a: [\n", "params.yaml:1:5: error"),
    ],
)
def test_malformed_files_are_errors_with_their_place(
    project: Path, capsys: Capture, name: str, text: str, message: str
) -> None:
    (project / name).write_bytes(text.encode("latin-1"))
    assert verify(project) == 2
    assert message in capsys.readouterr().err


def test_outputs_that_are_no_files_are_damaged(project: Path, capsys: Capture) -> None:
    import os

    (project / "a").unlink()
    os.mkfifo(project / "a")
    assert verify(project) == 1
    assert "a: is not what the stage wrote" in capsys.readouterr().out
