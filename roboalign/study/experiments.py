"""The runs of a study as DVC experiments: which there are, and how they are queued and run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from roboalign.io import parse_json
from roboalign.spec.document import plain, read
from roboalign.spec.dump import flow
from roboalign.spec.experiment import StudyRunSpec, StudySpec


class StudyError(Exception):
    """A study cannot be run or read; the message says what to do."""


def overrides(study: StudySpec, run: StudyRunSpec) -> list[str]:
    """The values that a run changes in params.yaml, as `dvc exp run -S` takes them."""
    chosen = {part: name for part, name in run.use.model_dump().items() if name is not None}
    values = flatten(study.set) | flatten(run.set)
    # `++` sets a value whether or not params.yaml has one already.
    return [f"use.{part}={name}" for part, name in chosen.items()] + [
        f"++set.{path}={flow(value)}" for path, value in values.items()
    ]


def flatten(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values by their dotted paths."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{above}{key}"
        result |= flatten(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return result


def git(root: Path, *words: str) -> str:
    """What git prints. Raises StudyError with git's own message."""
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StudyError(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout


def revisions(root: Path, study: str, runs: list[str]) -> dict[str, str]:
    """The commits of the finished runs of a study, by run, among the experiments of the commit at hand."""
    head = git(root, "rev-parse", "HEAD").strip()
    found = {}
    for line in git(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines():
        commit, _, name = line.partition(" ")
        pieces = name.split("/")  # refs/exps/<two digits>/<the other 38>/<name>
        if len(pieces) == 5 and "".join(pieces[2:4]) == head:
            found[pieces[4]] = commit
    return {run: found[f"{study}-{run}"] for run in runs if f"{study}-{run}" in found}


def require_experiment(root: Path, experiment: str) -> None:
    """Raises StudyError if params.yaml is about another experiment, or changes values of it, which every run would
    take over."""
    params = plain(read(root / "params.yaml", "params.yaml"))
    use = {part: name for part, name in params["use"].items() if name is not None and part != "experiment"}
    if params["use"]["experiment"] != experiment or use or params.get("set"):
        raise StudyError(
            f"params.yaml does not hold the experiment {experiment} as it is; run `python -m roboalign use "
            f"{experiment}` and commit that"
        )


def require_clean(root: Path) -> None:
    """Raises StudyError if the checkout holds changes that a queued experiment would take along."""
    changed = git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        raise StudyError(
            f"{len(changed)} files differ from the last commit ({changed[0].strip()}, …); commit them first: the "
            f"experiments are compared with that commit"
        )


def run_queued(root: Path, name: str, study: StudySpec) -> None:
    """Queue the runs that are not finished, and run them one after another. Raises StudyError if one fails."""
    require_clean(root)
    done = revisions(root, name, list(study.runs))
    missing = [run for run in study.runs if run not in done]
    for run in done:
        print(f"{name}-{run}: finished before ({done[run][:7]})", flush=True)
    if not missing:
        return
    for run in missing:
        words = [word for each in overrides(study, study.runs[run]) for word in ("-S", each)]
        dvc(root, "exp", "run", "--queue", "--name", f"{name}-{run}", *words)
    dvc(root, "exp", "run", "--run-all")
    done = revisions(root, name, list(study.runs))
    failed = [run for run in study.runs if run not in done]
    if failed:
        raise StudyError(
            f"{', '.join(failed)} did not finish; `dvc queue logs {name}-{failed[0]}` says why, and the command "
            f"run again goes on with what is missing"
        )


def dvc(root: Path, *words: str) -> None:
    """Run DVC, its output shown. Raises StudyError if it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, check=False)
    if done.returncode:
        raise StudyError(f"dvc {' '.join(words[:2])} failed with exit code {done.returncode}")


def read_committed(root: Path, revision: str, path: str) -> Any:
    """A JSON file of a commit."""
    return parse_json(git(root, "show", f"{revision}:{path}"))


def read_output(root: Path, revision: str, path: str) -> str:
    """A text file among the cached outputs of a commit. Raises StudyError if DVC does not hold it."""
    from dvc.api import read as read_cached
    from dvc.exceptions import DvcException

    try:
        return str(read_cached(path, repo=str(root), rev=revision))
    except (DvcException, FileNotFoundError) as error:
        raise StudyError(f"{path} of {revision[:7]} is not in DVC's cache ({error}); run the study again") from error
