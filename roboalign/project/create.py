"""Creates a project: a folder with specs, stages, graph and code, ready for `dvc repro`."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import roboalign

TEMPLATE = (
    ".dvc/.gitignore", ".dvc/config", ".dvcignore", ".gitignore", "annotations", "dvc.yaml", "external", "params.yaml",
    "specs", "stages",
)  # fmt: skip
"""Files and folders of a project beside the package `roboalign`. A wheel has them in roboalign/project/template/, a
checkout at its root."""

README = "project/README.md"
"""The project's README.md, below the package."""

BUNDLED = "project/template"
"""The folder of a wheel with the files of TEMPLATE, below the package."""


class ProjectError(Exception):
    """A project cannot be created. The message states the reason and the remedy."""


def template_folder(package: Path) -> Path:
    """The folder with the files of TEMPLATE, for the installed package or that of a checkout.

    Raises ProjectError if a file is missing.
    """
    folder = package / BUNDLED if (package / BUNDLED).is_dir() else package.parent
    for name in TEMPLATE:
        if not (folder / name).exists():
            raise ProjectError(f"{folder / name} is missing; install roboalign again")
    return folder


def create_project(folder: Path) -> None:
    """Write a project into `folder`, with a git repository. Nothing remains in `folder` if this fails.

    The project contains the code of this installation, because DVC hashes the code that its stages run.

    Args:
        folder: A new folder, or one that is empty but for `.git`.

    Raises:
        ProjectError: `folder` has other content, or git is missing.
        OSError: A file cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ProjectError(f"{folder} is a file; name another folder")
    content = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if set(content) - {".git"}:
        raise ProjectError(f"{folder} is not empty (it has {content[0]}); name a new folder or an empty one")
    if shutil.which("git") is None:
        raise ProjectError("git is missing, which DVC needs; install git")
    package = Path(roboalign.__file__).resolve().parent
    template = template_folder(package)
    with _scratch_folder(folder) as scratch:
        for name in TEMPLATE:
            _copy(template / name, scratch / name)
        _copy(package, scratch / "roboalign")
        _copy(package / README, scratch / "README.md")
        if not content:
            _run_git("init", "--quiet", str(scratch))
        _move_into(scratch, folder)


@contextmanager
def _scratch_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder on the file system of `folder`, removed at the end."""
    parent = folder.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=parent, prefix=f".{folder.resolve().name}.", ignore_cleanup_errors=True
    ) as name:
        scratch = Path(name) / "project"
        scratch.mkdir()
        yield scratch


def _move_into(scratch: Path, folder: Path) -> None:
    """Give the folder `scratch` the name `folder`; if `folder` exists, move the entries, all or none."""
    if not folder.exists():
        scratch.rename(folder)
        return
    moved: list[Path] = []
    try:
        for path in sorted(scratch.iterdir()):
            path.rename(folder / path.name)
            moved.append(folder / path.name)
    except BaseException:
        for path in moved:
            path.rename(scratch / path.name)
        raise


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder, without compiled code and the bundled files of projects."""

    def ignore(parent: str, names: list[str]) -> set[str]:
        return {name for name in names if name == "__pycache__" or Path(parent, name).match(f"roboalign/{BUNDLED}")}

    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=ignore, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)


def _run_git(*words: str) -> None:
    """Run git. Raises ProjectError with its message if it fails."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProjectError(f"git {words[0]} failed: {' '.join(done.stderr.split())}")
