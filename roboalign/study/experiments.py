"""The runs of a study as DVC experiments: their overrides, their commits, and how they are queued and run."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roboalign.spec.document import plain, read
from roboalign.spec.dump import flow
from roboalign.spec.experiment import StudyRunSpec, StudySpec


class StudyError(Exception):
    """A study cannot be run or read; the message says what to do."""


def overrides(study: StudySpec, run: StudyRunSpec) -> list[str]:
    """The values that a run changes in params.yaml, as arguments of `dvc exp run -S`."""
    chosen = {part: name for part, name in run.use.model_dump().items() if name is not None}
    values = flatten(study.set) | flatten(run.set)
    # `++` sets a value whether or not params.yaml already has one.
    return [f"use.{part}={name}" for part, name in chosen.items()] + [
        f"++set.{path}={flow(value)}" for path, value in values.items()
    ]


def flatten(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested values to dotted paths; `above` is the prefix of all paths."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{above}{key}"
        result |= flatten(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return result


def git(root: Path, *words: str) -> str:
    """Run git and return its output. Raises StudyError with git's message if it fails."""
    result = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    if result.returncode:
        raise StudyError(f"git {words[0]} failed: {result.stderr.strip()}")
    return result.stdout


def revisions(root: Path, study: str, runs: list[str]) -> dict[str, str]:
    """The commits of the finished runs of a study, by run, among the experiments of the current commit."""
    head = git(root, "rev-parse", "HEAD").strip()
    commits = {}
    for line in git(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines():
        commit, _, name = line.partition(" ")
        pieces = name.split("/")  # refs/exps/<two digits>/<the other 38>/<name>
        if len(pieces) == 5 and "".join(pieces[2:4]) == head:
            commits[pieces[4]] = commit
    return {run: commits[f"{study}-{run}"] for run in runs if f"{study}-{run}" in commits}


def require_experiment(root: Path, experiment: str) -> None:
    """Raise StudyError if params.yaml names another experiment or has overrides, which would apply to every run."""
    params = plain(read(root / "params.yaml", "params.yaml"))
    use = {part: name for part, name in params["use"].items() if name is not None and part != "experiment"}
    if params["use"]["experiment"] != experiment or use or params.get("set"):
        raise StudyError(
            f"params.yaml does not name the experiment {experiment} without overrides; run `python -m roboalign use "
            f"{experiment}` and commit it"
        )


def require_clean(root: Path) -> None:
    """Raise StudyError if the checkout has uncommitted changes, which queued experiments would include."""
    changed = git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        raise StudyError(
            f"{len(changed)} files differ from the last commit ({changed[0].strip()}, …); commit them first, because "
            f"the experiments start from the last commit"
        )


def run_queued(root: Path, name: str, study: StudySpec) -> None:
    """Queue the unfinished runs of a study and run them one after another. Raises StudyError if one fails."""
    require_clean(root)
    done = revisions(root, name, list(study.runs))
    missing = [run for run in study.runs if run not in done]
    for run in done:
        print(f"{name}-{run}: finished before ({done[run][:7]})", flush=True)
    if not missing:
        return
    for run in unqueue(root, name, missing):
        words = [word for each in overrides(study, study.runs[run]) for word in ("-S", each)]
        dvc(root, "exp", "run", "--queue", "--name", f"{name}-{run}", *words)
    dvc(root, "exp", "run", "--run-all")
    done = revisions(root, name, list(study.runs))
    failed = [run for run in study.runs if run not in done]
    if failed:
        raise StudyError(
            f"{', '.join(failed)} did not finish; `dvc queue logs {name}-{failed[0]}` shows why. Run the command again "
            f"to run the missing ones"
        )


def unqueue(root: Path, name: str, runs: Sequence[str]) -> list[str]:
    """Remove what earlier, interrupted calls left of `runs` in DVC's queue; return the runs that are not running now.

    A queued run may have been declared otherwise then, and DVC would run a second task of the same name as well.
    """
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        queue = repo.experiments.celery_queue
        tasks = [task for task in queue.status() if task["name"] in {f"{name}-{run}" for run in runs}]
        running = {task["name"] for task in tasks if task["status"] == "Running"}
        left = [task["rev"] for task in tasks if task["status"] in ("Queued", "Failed")]
        if left:
            queue.remove(left)
    for task in running:
        print(f"{task}: running already", flush=True)
    return [run for run in runs if f"{name}-{run}" not in running]


def dvc(root: Path, *words: str) -> None:
    """Run DVC and show its output. Raises StudyError if it fails."""
    result = subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, check=False)
    if result.returncode:
        raise StudyError(f"dvc {' '.join(words[:2])} failed with exit code {result.returncode}")


def read_output(root: Path, revision: str, path: str) -> str:
    """Read a text file of a commit's outputs from DVC's cache. Raises StudyError if it is not there."""
    from dvc.api import read as read_cached
    from dvc.exceptions import DvcException

    try:
        return str(read_cached(path, repo=str(root), rev=revision))
    except (DvcException, FileNotFoundError) as error:
        raise StudyError(f"{path} of {revision[:7]} is not in DVC's cache ({error}); run the study again") from error
