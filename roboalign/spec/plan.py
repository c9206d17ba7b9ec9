"""What `dvc repro` would run, and why: the sections as they would be composed now, against what dvc.lock records.

`dvc status` sees only files that exist: after an edit of a spec it reports `compose` alone. Here the sections are
composed in memory, and a stage that will run makes the stages that read its outputs run.
"""

import json
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from roboalign.errors import printable
from roboalign.spec.compose import FOLDER, Composition, compose, compose_params, files
from roboalign.spec.diagnostics import Diagnostic, SpecError
from roboalign.spec.differences import differences
from roboalign.spec.document import COMMAND_LINE, DocumentError, Mark, Source, parse, plain, read
from roboalign.spec.estimates import estimates, table
from roboalign.spec.graph import Stage, stages
from roboalign.spec.library import Library
from roboalign.spec.lock import Cache, Hashes, Locked, bytes_md5, folder_hash, md5, read_lock

SMALL = 16 * 1024 * 1024
"""Bytes of the largest output that is hashed here; larger ones and folders are compared by size and file count."""


SHOWN = 6
"""Causes of one stage that are printed; `--json` prints all."""


@dataclass
class Plan:
    """The stages in the order in which they run, each with what causes it to run (nothing: it would not)."""

    causes: dict[str, list[str]]
    away: list[str] = field(default_factory=list)
    """What params.yaml sets away from the last commit's."""


def plan(root: Path, composition: Composition, params: dict[str, Any]) -> Plan:
    """Compare the experiment with dvc.lock. Raises SpecError where a file cannot be read."""
    declared, record = sort_stages(stages(root, params)), read_lock(root)
    state = State(root, composition, params, declared, record, Hashes(root), Cache(root))
    causes: dict[str, list[str]] = {}
    try:
        for stage in declared:
            causes[stage.name] = because(state, stage, record.get(stage.name), causes)
    except OSError as error:
        place = Mark(Source(str(error.filename or "the checkout")))
        raise SpecError([Diagnostic(f"cannot be read: {error.strerror or error}", place)]) from None
    return Plan(causes, away(root, params))


@dataclass(frozen=True)
class State:
    """What the causes are found in."""

    root: Path
    composition: Composition
    params: dict[str, Any]
    declared: list[Stage]
    record: dict[str, Locked]
    hashes: Hashes
    cache: Cache


def because(state: State, stage: Stage, last: Locked | None, causes: dict[str, list[str]]) -> list[str]:
    """Why the stage would run; empty where it would not. `causes` holds those of the stages before it."""
    if last is None:
        return ["it has never run"]
    found = [f"its command was `{last.cmd}`"] if last.cmd != stage.cmd else []
    for file, key in stage.params:
        found += changed_values(state, last, file, key)
    for path in stage.deps:
        found += changed_dependency(state, last, path, causes)
    found += [f"it no longer depends on {path}" for path in last.deps if path not in stage.deps]
    for path in stage.outs:
        if PurePosixPath(path) != PurePosixPath(FOLDER.as_posix()):
            found += changed_output(state, last, path)
    return found


def changed_values(state: State, last: Locked, file: str, key: str) -> list[str]:
    """The fields under `key` that differ from those of the last run."""
    now: Any
    if PurePosixPath(file).parent == PurePosixPath(FOLDER.as_posix()):
        now = state.composition.section_files
    elif file == "params.yaml":
        now = state.params
    else:
        try:
            now = plain(read(state.root / file, file))
        except DocumentError as error:
            raise SpecError([Diagnostic(error.message, error.mark)]) from None
    was = last.params.get(file, {})
    if key == "":  # the whole file
        return differences(was, now, "")
    for step in key.split("."):
        if not isinstance(now, dict) or step not in now:
            return [f"{key} is no longer in {file}"]
        now = now[step]
    if key not in was:
        return [f"it reads {key} now"]
    return differences(was[key], now, key)


def changed_dependency(state: State, last: Locked, path: str, causes: dict[str, list[str]]) -> list[str]:
    """Whether a dependency will differ from what the last run saw."""
    if path not in last.deps:
        return [f"it depends on {path} now"]
    recorded = last.deps[path]
    if PurePosixPath(path) == PurePosixPath(FOLDER.as_posix()):
        texts = files(state.composition)
        hashed = folder_hash({name: bytes_md5(text.encode()) for name, text in texts.items()})
        if hashed == recorded.get("md5"):
            return []
        now = [name for name, text in texts.items() if state.hashes.of(f"{path}/{name}") != bytes_md5(text.encode())]
        return [f"{path} will change ({', '.join(now)})" if now else f"{path} changed since it last ran"]
    producers = [stage for stage in state.declared if any(overlaps(path, out) for out in stage.outs)]
    if not producers:
        if state.hashes.of(path) == recorded.get("md5"):
            return []
        return [
            f"{path} {'is missing' if state.hashes.of(path) is None else 'changed' + edited_files(state.root, path)}"
        ]
    running = [stage.name for stage in producers if causes.get(stage.name)]
    if running:
        return [f"{path} will change ({', '.join(running)})"]
    outs = [
        state.record[stage.name].outs.get(out, {"path": out})
        for stage in producers
        for out in stage.outs
        if overlaps(path, out)
    ]
    if len(outs) == 1 and outs[0]["path"] == path:
        same = outs[0].get("md5") == recorded.get("md5")
    else:
        same = folder_hash_of(state, path, outs) in (recorded.get("md5"), None)
    return [] if same else [f"{path} changed since it last ran"]


def folder_hash_of(state: State, path: str, outs: list[dict[str, Any]]) -> str | None:
    """The hash of a folder that holds these recorded outputs and what else lies there; None where it is not known.

    The outputs' files are not read: DVC's cache lists them.
    """
    files: dict[str, str] = {}
    for out in outs:
        inside = PurePosixPath(out["path"])
        if not inside.is_relative_to(path):
            return None
        name, value = inside.relative_to(path).as_posix(), str(out.get("md5"))
        if not value.endswith(".dir"):
            files[name] = value
            continue
        listed = state.cache.listing(value)
        if listed is None:
            return None
        files |= {f"{name}/{each}": hashed for each, hashed in listed.items()}
    own = [PurePosixPath(out["path"]) for out in outs]
    if (state.root / path).is_dir():
        for name, file in state.hashes.files(state.root / path):
            if not any(PurePosixPath(path, name).is_relative_to(each) for each in own):
                files[name] = md5(file)
    return folder_hash(files)


def changed_output(state: State, last: Locked, path: str) -> list[str]:
    """Whether an output is there as it was written."""
    full, recorded = state.root / path, last.outs.get(path)
    if recorded is None:
        return [f"it writes {path} now"]
    if not full.exists():
        return [f"{path} is missing (DVC restores it where its cache has it)"]
    if full.is_dir():
        sizes = [file.stat().st_size for _, file in state.hashes.files(full)]
        same = (len(sizes), sum(sizes)) == (recorded.get("nfiles"), recorded.get("size"))
    elif full.stat().st_size <= SMALL:
        same = state.hashes.of(path) == recorded.get("md5")
    else:
        same = full.stat().st_size == recorded.get("size")
    return [] if same else [f"{path} was changed by hand"]


def overlaps(path: str, out: str) -> bool:
    """Whether one of the two paths holds the other."""
    left, right = PurePosixPath(path), PurePosixPath(out)
    return left.is_relative_to(right) or right.is_relative_to(left)


def sort_stages(declared: list[Stage]) -> list[Stage]:
    """The stages, each after those whose outputs it reads. Raises SpecError on a circle."""
    result: list[Stage] = []
    left = list(declared)
    while left:
        ready = [
            stage
            for stage in left
            if not any(
                overlaps(d, out) for other in left if other is not stage for out in other.outs for d in needs(stage)
            )
        ]
        if not ready:
            message = f"these stages wait for one another: {', '.join(stage.name for stage in left)}"
            raise SpecError([Diagnostic(message, Mark(Source("dvc.yaml")))])
        result.append(ready[0])
        left.remove(ready[0])
    return result


def needs(stage: Stage) -> list[str]:
    """The files that a stage reads: dependencies and parameter files."""
    return [*stage.deps, *(file for file, _ in stage.params)]


def git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None where it fails or there is none."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def edited_files(root: Path, path: str) -> str:
    """The files below `path` that differ from the last commit, where git knows."""
    names = (git(root, "status", "--porcelain", "--untracked-files=all", "--", path) or "").splitlines()
    if not names:
        return ""
    shown = [PurePosixPath(line[3:].strip('"')).name for line in names]
    return f" ({', '.join(shown[:3])}{f' and {len(shown) - 3} more' if len(shown) > 3 else ''})"


def away(root: Path, params: dict[str, Any]) -> list[str]:
    """What params.yaml sets away from the last commit: a killed `dvc exp run -S` leaves its values behind."""
    text = git(root, "show", "HEAD:params.yaml")
    if text is None:
        return []
    try:
        return differences(plain(parse(text, "HEAD:params.yaml")), params, "")
    except DocumentError:
        return []


def report(root: Path, experiment: str | None, as_json: bool) -> int:
    """Print the plan of params.yaml or of `experiment`; the exit code. Raises SpecError where specs are not valid."""
    library = Library(root)
    if experiment is None:
        composition = compose_params(library)
        whole = composition.require()
        params = plain(read(root / "params.yaml", "params.yaml"))
    else:
        composition = compose(library, experiment, COMMAND_LINE)
        whole = composition.require()
        params = {"use": {"experiment": experiment}, "sources": list(composition.sections["sources"]), "set": {}}
    result = plan(root, composition, params)
    rows = estimates(whole)
    if as_json:
        print(
            json.dumps(
                {"stages": result.causes, "away": result.away, "estimates": [asdict(row) for row in rows]}, indent=2
            )
        )
        return 0
    print(
        f"experiment {composition.name}: {', '.join(f'{part} {name}' for part, name in composition.variants.items())}"
    )
    print(f"sources: {', '.join(params['sources'])}")
    if experiment is None and result.away:
        print(printable("set away from the last commit: " + "; ".join(result.away)))
    print()
    running = {name: causes for name, causes in result.causes.items() if causes}
    if running:
        print(f"dvc repro would run {len(running)} of {len(result.causes)} stages:")
        width = max(len(name) for name in running)
        for name, causes in running.items():
            more = [f"and {len(causes) - SHOWN} more"] if len(causes) > SHOWN else []
            for number, cause in enumerate([*causes[:SHOWN], *more]):
                print(printable(f"  {name if number == 0 else '':<{width}}  {cause}"))
    else:
        print("dvc repro would run nothing: everything is up to date")
    print()
    print(table(rows, whole.hardware))
    return 0
