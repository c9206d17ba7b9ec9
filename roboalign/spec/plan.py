"""The stages that `dvc repro` would run, and why: compares the sections, composed in memory, with dvc.lock.

`dvc status` compares files that exist, so after an edit of a spec it reports only `compose`. The plan also follows the
graph: a stage that will run makes the stages that read its outputs run.
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
from roboalign.spec.lock import Cache, Hashes, LockedStage, bytes_md5, folder_hash, md5, read_lock

SMALL = 16 * 1024 * 1024
"""Size in bytes up to which the plan hashes an output file; it compares larger ones by size, and folders by size and
file count."""

SHOWN = 6
"""Number of causes printed for each stage; `--json` prints all."""


@dataclass
class Plan:
    """The stages in the order in which they run, each with the causes of its run; empty if it is up to date."""

    causes: dict[str, list[str]]
    uncommitted: list[str] = field(default_factory=list)
    """Values of params.yaml that differ from the last commit."""


def plan(root: Path, composition: Composition, params: dict[str, Any]) -> Plan:
    """Compare a valid experiment with dvc.lock.

    Args:
        root: The checkout.
        composition: The composed experiment.
        params: The content of params.yaml, from which dvc.yaml's `${…}` are replaced.

    Raises:
        SpecError: A file cannot be read, or dvc.yaml is not valid.
    """
    declared, record = sort_stages(stages(root, params)), read_lock(root)
    inputs = PlanInputs(root, composition, params, declared, record, Hashes(root), Cache(root))
    causes: dict[str, list[str]] = {}
    try:
        for stage in declared:
            causes[stage.name] = find_causes(inputs, stage, record.get(stage.name), causes)
    except OSError as error:
        place = Mark(Source(str(error.filename or "the checkout")))
        raise SpecError([Diagnostic(f"cannot be read: {error.strerror or error}", place)]) from None
    return Plan(causes, uncommitted_params(root, params))


@dataclass(frozen=True)
class PlanInputs:
    """Everything that a stage's causes are derived from."""

    root: Path
    composition: Composition
    params: dict[str, Any]
    declared: list[Stage]
    record: dict[str, LockedStage]
    hashes: Hashes
    cache: Cache


def find_causes(inputs: PlanInputs, stage: Stage, last: LockedStage | None, causes: dict[str, list[str]]) -> list[str]:
    """The reasons why a stage would run; empty if it is up to date.

    Args:
        inputs: The checkout.
        stage: The stage.
        last: Its last run, None if it has never run.
        causes: The causes of the stages before it.
    """
    if last is None:
        return ["it has never run"]
    reasons = [f"its command was `{last.cmd}`"] if last.cmd != stage.cmd else []
    for file, key in stage.params:
        reasons += changed_values(inputs, last, file, key)
    for path in stage.deps:
        reasons += changed_dependency(inputs, last, path, causes)
    reasons += [f"it no longer depends on {path}" for path in last.deps if path not in stage.deps]
    for path in stage.outs:
        if PurePosixPath(path) != PurePosixPath(FOLDER.as_posix()):
            reasons += changed_output(inputs, last, path)
    return reasons


def changed_values(inputs: PlanInputs, last: LockedStage, file: str, key: str) -> list[str]:
    """The fields under `key` of a parameter file that differ from those of the last run."""
    current: Any
    if PurePosixPath(file).parent == PurePosixPath(FOLDER.as_posix()):
        current = inputs.composition.section_files
    elif file == "params.yaml":
        current = inputs.params
    else:
        try:
            current = plain(read(inputs.root / file, file))
        except DocumentError as error:
            raise SpecError([Diagnostic(error.message, error.mark)]) from None
    recorded = last.params.get(file, {})
    if key == "":  # the whole file
        return differences(recorded, current, "")
    for step in key.split("."):
        if not isinstance(current, dict) or step not in current:
            return [f"{key} is no longer in {file}"]
        current = current[step]
    if key not in recorded:
        return [f"it now reads {key}"]
    return differences(recorded[key], current, key)


def changed_dependency(inputs: PlanInputs, last: LockedStage, path: str, causes: dict[str, list[str]]) -> list[str]:
    """The reason why a dependency will differ from that of the last run, if it will."""
    if path not in last.deps:
        return [f"it now depends on {path}"]
    recorded = last.deps[path]
    if PurePosixPath(path) == PurePosixPath(FOLDER.as_posix()):
        texts = files(inputs.composition)
        hashed = folder_hash({name: bytes_md5(text.encode()) for name, text in texts.items()})
        if hashed == recorded.get("md5"):
            return []
        new = [name for name, text in texts.items() if inputs.hashes.of(f"{path}/{name}") != bytes_md5(text.encode())]
        return [f"{path} will change ({', '.join(new)})" if new else f"{path} changed since it last ran"]
    producers = [stage for stage in inputs.declared if any(overlaps(path, out) for out in stage.outs)]
    if not producers:
        if inputs.hashes.of(path) == recorded.get("md5"):
            return []
        return [
            f"{path} {'is missing' if inputs.hashes.of(path) is None else 'changed' + edited_files(inputs.root, path)}"
        ]
    running = [stage.name for stage in producers if causes.get(stage.name)]
    if running:
        return [f"{path} will change ({', '.join(running)})"]
    outs = [
        inputs.record[stage.name].outs.get(out, {"path": out})
        for stage in producers
        for out in stage.outs
        if overlaps(path, out)
    ]
    if len(outs) == 1 and outs[0]["path"] == path:
        same = outs[0].get("md5") == recorded.get("md5")
    else:
        same = folder_hash_of(inputs, path, outs) in (recorded.get("md5"), None)
    return [] if same else [f"{path} changed since it last ran"]


def folder_hash_of(inputs: PlanInputs, path: str, outs: list[dict[str, Any]]) -> str | None:
    """Return the hash of a folder that contains recorded outputs and other files; None if it cannot be determined.

    The files of the outputs are listed from DVC's cache without reading them; the other files are hashed.
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
        listed = inputs.cache.listing(value)
        if listed is None:
            return None
        files |= {f"{name}/{each}": hashed for each, hashed in listed.items()}
    recorded = [PurePosixPath(out["path"]) for out in outs]
    if (inputs.root / path).is_dir():
        for name, file in inputs.hashes.files(inputs.root / path):
            if not any(PurePosixPath(path, name).is_relative_to(each) for each in recorded):
                files[name] = md5(file)
    return folder_hash(files)


def changed_output(inputs: PlanInputs, last: LockedStage, path: str) -> list[str]:
    """The reason why an output differs from what the last run wrote, if it does."""
    full, recorded = inputs.root / path, last.outs.get(path)
    if recorded is None:
        return [f"it now writes {path}"]
    if not full.exists():
        return [f"{path} is missing (DVC restores it if its cache has it)"]
    if full.is_dir():
        sizes = [file.stat().st_size for _, file in inputs.hashes.files(full)]
        same = (len(sizes), sum(sizes)) == (recorded.get("nfiles"), recorded.get("size"))
    elif full.stat().st_size <= SMALL:
        same = inputs.hashes.of(path) == recorded.get("md5")
    else:
        same = full.stat().st_size == recorded.get("size")
    return [] if same else [f"{path} was changed by hand"]


def overlaps(path: str, out: str) -> bool:
    """Whether two paths are equal or one contains the other."""
    left, right = PurePosixPath(path), PurePosixPath(out)
    return left.is_relative_to(right) or right.is_relative_to(left)


def sort_stages(declared: list[Stage]) -> list[Stage]:
    """The stages in topological order. Raises SpecError if they form a cycle."""
    result: list[Stage] = []
    remaining = list(declared)
    while remaining:
        ready = [
            stage
            for stage in remaining
            if not any(
                overlaps(path, out)
                for other in remaining
                if other is not stage
                for out in other.outs
                for path in input_files(stage)
            )
        ]
        if not ready:
            message = f"these stages depend on one another: {', '.join(stage.name for stage in remaining)}"
            raise SpecError([Diagnostic(message, Mark(Source("dvc.yaml")))])
        result.append(ready[0])
        remaining.remove(ready[0])
    return result


def input_files(stage: Stage) -> list[str]:
    """The files that a stage reads: dependencies and parameter files."""
    return [*stage.deps, *(file for file, _ in stage.params)]


def git(root: Path, *arguments: str) -> str | None:
    """Run git in `root` and return its output, or None if it fails or is not installed."""
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.decode("utf-8", "replace")


def edited_files(root: Path, path: str) -> str:
    """The files below `path` that differ from the last commit, as ` (a, b, c and 2 more)`; '' if git finds none."""
    names = (git(root, "status", "--porcelain", "--untracked-files=all", "--", path) or "").splitlines()
    if not names:
        return ""
    edited = [PurePosixPath(line[3:].strip('"')).name for line in names]
    return f" ({', '.join(edited[:3])}{f' and {len(edited) - 3} more' if len(edited) > 3 else ''})"


def uncommitted_params(root: Path, params: dict[str, Any]) -> list[str]:
    """The values of params.yaml that differ from the last commit; empty if git fails.

    A killed `dvc exp run -S` leaves its values in params.yaml.
    """
    text = git(root, "show", "HEAD:params.yaml")
    if text is None:
        return []
    try:
        return differences(plain(parse(text, "HEAD:params.yaml")), params, "")
    except DocumentError:
        return []


def report(root: Path, experiment: str | None, as_json: bool) -> int:
    """Print the plan and the estimates, and return the exit code.

    Args:
        root: The checkout.
        experiment: A file under specs/experiments/; None for params.yaml.
        as_json: Print JSON.

    Raises:
        SpecError: The specs are not valid, or dvc.yaml or dvc.lock cannot be read.
    """
    library = Library(root)
    if experiment is None:
        composition = compose_params(library)
        spec = composition.require()
        params = plain(read(root / "params.yaml", "params.yaml"))
    else:
        composition = compose(library, experiment, COMMAND_LINE)
        spec = composition.require()
        params = {"use": {"experiment": experiment}, "sources": list(composition.sections["sources"]), "set": {}}
    result = plan(root, composition, params)
    rows = estimates(spec)
    if as_json:
        print(
            json.dumps(
                {
                    "stages": result.causes,
                    "uncommitted": result.uncommitted,
                    "estimates": [asdict(row) for row in rows],
                },
                indent=2,
            )
        )
        return 0
    print(
        f"experiment {composition.name}: {', '.join(f'{part} {name}' for part, name in composition.variants.items())}"
    )
    print(f"sources: {', '.join(params['sources'])}")
    if experiment is None and result.uncommitted:
        print(printable("params.yaml differs from the last commit: " + "; ".join(result.uncommitted)))
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
        print("dvc repro would run no stage: everything is up to date")
    print()
    print(table(rows, spec.hardware))
    return 0
