"""Uploading: what the hub's client is asked to do. No test reaches the network."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalTokenNotFoundError

from roboalign.__main__ import main
from roboalign.export.folder import FILES

Calls = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls that the client gets, each checked against the real one's signature."""
    found: Calls = []

    def replace(name: str) -> None:
        signature = inspect.signature(getattr(huggingface_hub.HfApi, name))

        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            found.append((name, dict(signature.bind(self, *arguments, **named).arguments) | {"self": None}))
            return SimpleNamespace(commit_url="https://hub/commit/1")

        monkeypatch.setattr(huggingface_hub.HfApi, name, call)

    replace("create_repo")
    replace("upload_folder")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def test_an_exported_folder_is_uploaded(folder: Path, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(folder), "somebody/model", "--private"]) == 0
    (first, create), (second, upload) = calls
    assert (first, second) == ("create_repo", "upload_folder")
    assert (create["repo_id"], create["private"], create["exist_ok"]) == ("somebody/model", True, True)
    assert (upload["repo_id"], upload["folder_path"]) == ("somebody/model", folder)
    assert set(upload["allow_patterns"]) == {*FILES, "calibration.json"}
    assert "https://hub/commit/1" in capsys.readouterr().out


def test_another_folder_is_refused(folder: Path, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.json").unlink()
    assert main(["push", str(folder), "somebody/model"]) == 1
    assert "holds no config.json; write it with `python -m roboalign export PART FOLDER`" in capsys.readouterr().err
    assert calls == []


def test_a_refusal_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise LocalTokenNotFoundError("Token is required,\nbut no token found")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    assert main(["push", str(folder), "somebody/model"]) == 1
    error = capsys.readouterr().err
    assert "Token is required, but no token found; log in with `hf auth login`" in error
    assert error.count("\n") == 1
