"""The wheel, and the projects that its command creates outside of a checkout."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from roboalign.__main__ import main
from roboalign.project.create import BUNDLED, TEMPLATE, ProjectError, create_project

ROOT = Path(__file__).parents[2]
LAUNCHER = "import sys\nfrom roboalign.cli.launcher import main\nsys.exit(main())\n"
Capture = pytest.CaptureFixture[str]


def list_files(*folders: str) -> set[str]:
    """The files below `folders` that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


def files_below(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if ".git" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's packages, and the command `roboalign` as an installer writes it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    (folder / "bin").mkdir()
    (folder / "bin/roboalign").write_text(LAUNCHER)
    return folder


@pytest.fixture(scope="module")
def project(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that the wheel's command created."""
    folder = tmp_path_factory.mktemp("work")
    assert "cd demo\n  roboalign use smoke\n  dvc repro\n" in roboalign(site, folder, "init", "demo")
    return folder / "demo"


def roboalign(site: Path, folder: Path, *words: str) -> str:
    """The output of the installed command in `folder`."""
    done = subprocess.run(
        [sys.executable, str(site / "bin/roboalign"), *words], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_every_file_of_the_package_and_of_a_project(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read("roboalign-0.1.0.dist-info/entry_points.txt").decode()
    assert names == list_files("roboalign") | {f"roboalign/{BUNDLED}/{name}" for name in list_files(*TEMPLATE)}
    assert "roboalign = roboalign.cli.launcher:main" in entry_points


def test_pyproject_names_the_files_of_a_project() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {name: f"roboalign/{BUNDLED}/{name}" for name in TEMPLATE}


def test_a_project_of_the_wheel_has_the_files_of_the_checkout(project: Path) -> None:
    expected = list_files("roboalign", *TEMPLATE)
    assert files_below(project) == {*expected, "README.md"}
    for name in expected:
        assert (project / name).read_bytes() == (ROOT / name).read_bytes(), name
    assert (project / ".git").is_dir()


def test_a_project_is_valid_and_its_first_stage_runs(site: Path, project: Path) -> None:
    assert roboalign(site, project, "check").startswith("valid: ")
    composed = [sys.executable, "-m", "stages.compose"]
    done = subprocess.run(composed, cwd=project, env={**os.environ, "PYTHONPATH": str(site)}, check=False)
    assert done.returncode == 0
    assert (project / "build/spec/rollout.yaml").is_file()


def test_in_a_project_the_command_runs_the_code_of_the_project(site: Path, tmp_path: Path) -> None:
    roboalign(site, tmp_path, "init", "one")
    roboalign(site, tmp_path / "one", "init", "../two")  # a project creates projects, too
    (tmp_path / "two/roboalign/__main__.py").write_text("import sys\nprint('changed code', *sys.argv[1:])\n")
    assert roboalign(site, tmp_path / "two", "check", "tiny") == "changed code check tiny\n"
    assert roboalign(site, tmp_path, "--help").startswith("usage: roboalign ")


def test_other_content_is_not_touched(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    assert main(["init", str(tmp_path / "full")]) == 2
    assert "full is not empty (it has notes.txt); name a new folder or an empty one" in capsys.readouterr().err
    assert main(["init", str(tmp_path / "file")]) == 2
    assert "file is a file; name another folder" in capsys.readouterr().err
    assert main(["init", str(tmp_path / "file/below")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert files_below(tmp_path) == {"file", "full/notes.txt"}


def test_a_new_repository_becomes_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    (tmp_path / ".git/description").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert main(["init", "."]) == 0
    assert "next:\n  roboalign check\n  roboalign use smoke\n  dvc repro\n" in capsys.readouterr().out
    assert (tmp_path / "dvc.yaml").is_file()
    assert (tmp_path / ".git/description").read_text() == "mine"


def test_nothing_remains_of_a_project_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tools").mkdir()
    git = tmp_path / "tools/git"
    git.write_text("#!/bin/sh\necho 'fatal: no space' >&2\nexit 1\n")
    git.chmod(0o755)
    (tmp_path / "work/empty").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "tools"))
        for folder in ("work/new", "work/empty"):
            with pytest.raises(ProjectError, match="git init failed: fatal: no space"):
                create_project(tmp_path / folder)
        git.unlink()
        with pytest.raises(ProjectError, match="git is missing"):
            create_project(tmp_path / "work/new")
    move = Path.rename

    def fail_late(self: Path, target: Path) -> Path:
        if target == tmp_path / "work/empty/specs":
            raise OSError("no space")
        return move(self, target)

    monkeypatch.setattr(Path, "rename", fail_late)
    with pytest.raises(OSError, match="no space"):
        create_project(tmp_path / "work/empty")
    assert [path.relative_to(tmp_path) for path in (tmp_path / "work").rglob("*")] == [Path("work/empty")]
