"""`make setup` in a folder whose path has spaces and other characters that shells read in their own way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UV = """#!/bin/sh
# Stands for uv: notes its arguments, and makes an environment that is the one at hand.
for word in "$@"; do printf '%s\\n' "$word"; done >>"$UV_LOG"
[ "$1" = venv ] || exit 0
mkdir -p .venv/bin
printf '#!/bin/sh\\nexec "%s" "$@"\\n' "$ENVIRONMENT" >.venv/bin/python
chmod +x .venv/bin/python
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "my robots' (new) $HOME & co"
    (folder / "scripts").mkdir(parents=True)
    for name in ("Makefile", "scripts/setup", "requirements.lock"):
        shutil.copy2(ROOT / name, folder / name)
    return folder


def make_setup(checkout: Path, **variables: str) -> str:
    """Run `make setup` with an interpreter by its path; what it prints."""
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    done = subprocess.run(
        ["make", "--no-print-directory", "setup"], cwd=checkout, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_chromium_is_asked_for_by_test_and_not_by_repro(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "git", "dirname", "uname", "cksum", "cat"):
        (tools / name).symlink_to(str(shutil.which(name)))
    environment = {"PATH": str(tools), "PYTHON": sys.executable}
    version = subprocess.run([sys.executable, "--version"], capture_output=True, text=True, check=True).stdout
    with (checkout / "requirements.lock").open() as lock:
        summed = subprocess.run(["cksum"], stdin=lock, capture_output=True, text=True, check=True).stdout
    (checkout / ".venv").mkdir()
    (checkout / ".venv/.setup").write_text((summed + version).rstrip("\n"))

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(tools / "bash"), "scripts/setup", *arguments]
        return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)

    assert run().returncode == 0
    refused = run("browser")
    assert refused.returncode == 1
    assert "Chromium is missing" in refused.stderr
    assert "apt-get install chromium" in refused.stderr
    (tools / "chromium").symlink_to(str(shutil.which("true")))
    assert run("browser").returncode == 0


def test_an_environment_that_is_there_is_left_as_it_is(checkout: Path) -> None:
    version = subprocess.run([sys.executable, "--version"], capture_output=True, text=True, check=True).stdout
    with (checkout / "requirements.lock").open() as lock:
        summed = subprocess.run(["cksum"], stdin=lock, capture_output=True, text=True, check=True).stdout
    (checkout / ".venv").mkdir()
    (checkout / ".venv/.setup").write_text((summed + version).rstrip("\n"))
    assert make_setup(checkout) == ""
    assert [path.name for path in (checkout / ".venv").iterdir()] == [".setup"]


@pytest.mark.attack
def test_an_environment_is_made(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools of mine"
    tools.mkdir()
    (tools / "uv").write_text(UV)
    (tools / "uv").chmod(0o755)
    python = tools / "python 3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    variables = {
        "PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": str(python), "UV_LOG": str(tmp_path / "log"),
        "ENVIRONMENT": sys.executable,
    }  # fmt: skip
    assert make_setup(checkout, **variables).endswith("setup: done\n")
    assert (tmp_path / "log").read_text().splitlines() == [
        "venv", "--quiet", "--allow-existing", "--python", str(python), ".venv",
        "pip", "sync", "--quiet", "--python", ".venv/bin/python", "requirements.lock",
    ]  # fmt: skip
    assert make_setup(checkout, **variables) == ""
