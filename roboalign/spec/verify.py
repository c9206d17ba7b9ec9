"""Detects bit rot: re-hashes the outputs of all stages, compares them with dvc.lock, and names damaged files.

DVC does not re-hash its cache and its remotes, so status, push and pull do not detect a flipped bit (docs/dvc.md).
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roboalign.errors import printable
from roboalign.spec.diagnostics import Diagnostic, SpecError
from roboalign.spec.document import DocumentError, plain, read
from roboalign.spec.graph import LARGEST, Stage, stages
from roboalign.spec.lock import (
    ENTRY,
    Cache,
    Hashes,
    LockedEntry,
    LockedStage,
    folder_hash,
    md5,
    parse_listing,
    read_lock,
)
from roboalign.spec.remote import Remote
from roboalign.spec.validation import validate


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that differs from dvc.lock, and a message that says how."""

    path: str
    message: str


@dataclass
class Verifier:
    """Re-hashes outputs, and optionally DVC's cache and a remote; each object once."""

    root: Path
    check_cache: bool = False
    remote: Remote | None = None
    hashes: Hashes = field(init=False)
    cache: Cache = field(init=False)
    cached_objects: dict[str, str] = field(default_factory=dict)
    """Error of each hashed object of the cache, '' if it is intact."""

    def __post_init__(self) -> None:
        self.hashes, self.cache = Hashes(self.root), Cache(self.root)

    def stage(self, stage: Stage, record: LockedStage) -> Iterator[tuple[str, list[Damage]]]:
        """Each output of a stage with its damages, in the workspace, the cache and the remote."""
        for path in stage.outs:
            expected = record.outs.get(path, {}).get("md5")
            if expected is None:
                yield path, [Damage(path, f"dvc.lock has no hash for it; run `dvc repro {stage.name}`")]
                continue
            damaged = self.workspace(path, expected)
            if self.check_cache and path in stage.cached:
                damaged += self.in_cache(path, expected)
            if self.remote is not None and path in stage.pushed:
                damaged += self.in_remote(self.remote, path, expected)
            yield path, damaged

    def workspace(self, path: str, expected: str) -> list[Damage]:
        """The damages of an output in the workspace, by file if DVC's cache has the list of a folder's files."""
        full = self.root / path
        if not full.exists():
            return [Damage(path, "is missing; `dvc checkout` restores it")]
        try:
            if not full.is_dir():
                same = full.is_file() and md5(full) == expected
                return [] if same else [Damage(path, "is not what the stage wrote")]
            actual = {name: md5(file) for name, file in self.hashes.files(full)}
        except OSError as error:
            return [Damage(path, f"cannot be read ({error})")]
        if folder_hash(actual) == expected:
            return []
        recorded = self.cache.listing(expected)
        if recorded is None:
            return [
                Damage(
                    path,
                    "is not what the stage wrote (DVC's cache has no list of its files, so they are not compared)",
                )
            ]
        damages = [Damage(f"{path}/{name}", "is missing") for name in sorted(recorded.keys() - actual.keys())]
        damages += [Damage(f"{path}/{name}", "was added") for name in sorted(actual.keys() - recorded.keys())]
        changed = (name for name in sorted(recorded.keys() & actual.keys()) if recorded[name] != actual[name])
        return damages + [Damage(f"{path}/{name}", "is damaged") for name in changed]

    def in_cache(self, path: str, expected: str) -> list[Damage]:
        """The damages of an output's copies in DVC's cache."""
        damages = self._objects(path, {"": expected})
        files = self.cache.listing(expected) if expected.endswith(".dir") else None
        return damages + self._objects(path, files or {})

    def _objects(self, path: str, files: dict[str, str]) -> list[Damage]:
        """The damages of the cache's objects for the files of an output (hashes by name)."""
        damages = []
        for name, value in files.items():
            if message := self.cached_object(value):
                origin = f"({path}/{name}) " if name else ""
                damages.append(Damage(str(self.cache.path(value)), f"{origin}{message}"))
        return damages

    def cached_object(self, value: str) -> str:
        """The error of the cache's object with the hash `value`; '' if it is intact."""
        if value not in self.cached_objects:
            file = self.cache.path(value)
            try:
                is_list = value.endswith(".dir")
                same = parse_listing(file.read_bytes(), value) is not None if is_list else md5(file) == value
                message = "" if same else "is damaged; remove it, then `dvc pull`, or `dvc repro --force` its stage"
            except FileNotFoundError:
                message = "is not in DVC's cache; run `dvc commit` or `dvc pull`"
            except OSError as error:
                message = f"cannot be read ({error.strerror})"
            self.cached_objects[value] = message
        return self.cached_objects[value]

    def in_remote(self, remote: Remote, path: str, expected: str) -> list[Damage]:
        """The damages of an output's copies in a remote. Downloads all of its files."""
        files = {"": expected}
        if expected.endswith(".dir"):
            data = remote.read(expected)
            listed = parse_listing(data, expected) if isinstance(data, bytes) else None
            if listed is None:
                message = "is damaged" if isinstance(data, bytes) else data
                return [Damage(remote.url(expected), f"({path}) {message}; {remote.remedy}")]
            files = listed
        damages = []
        for (name, value), message in zip(files.items(), remote.check(files.values()), strict=True):
            if message:
                origin = f"{path}/{name}" if name else path
                damages.append(Damage(remote.url(value), f"({origin}) {message}; {remote.remedy}"))
        return damages

    def run_cache(self) -> Iterator[tuple[str, list[Damage]]]:
        """Each recorded run of DVC's run cache with its damages, and those of its outputs that are in the cache."""
        folder = self.cache.folder / "runs"
        for file in sorted(file for file in folder.glob("??/*/*") if file.is_file()):
            run = _recorded_run(file)
            if run is None:
                yield str(file), [Damage(str(file), "is damaged; remove it, so that DVC runs the stage again")]
                continue
            damaged = []
            for out in run.outs:
                if out.md5 is not None and self.cache.path(out.md5).exists():
                    damaged += [each for each in self.in_cache(out.path, out.md5) if Path(each.path).exists()]
            yield str(file), damaged


def _recorded_run(file: Path) -> LockedEntry | None:
    """A run of DVC's run cache; None if it is not valid or its hash differs from the file's name."""
    try:
        node = read(file, size=LARGEST, nodes=10**6)
    except DocumentError:
        return None
    value, _ = validate(ENTRY, LockedEntry, node)
    text = json.dumps(_without_sizes(plain(node)), sort_keys=True)
    if value is None or hashlib.sha256(text.encode()).hexdigest() != file.name:
        return None
    run: LockedEntry = value
    return run


def _without_sizes(value: Any) -> Any:
    """A recorded run without `size` and `nfiles`, which DVC does not hash."""
    if isinstance(value, dict):
        return {key: _without_sizes(item) for key, item in value.items() if key not in ("size", "nfiles")}
    return [_without_sizes(item) for item in value] if isinstance(value, list) else value


def verify(root: Path, cache: bool = False, remote: Remote | None = None) -> Iterator[tuple[str, list[Damage]]]:
    """Each output of dvc.yaml's stages with its damages; a stage that is not in dvc.lock is one damage.

    Args:
        root: The checkout.
        cache: Re-hash the copies in DVC's cache too.
        remote: Download and re-hash the copies in this remote too.

    Raises:
        SpecError: dvc.yaml, dvc.lock, params.yaml or DVC's configuration cannot be read.
    """
    verifier = Verifier(root, cache, remote)
    declared, record = stages(root, parameters(root)), read_lock(root)
    for stage in declared:
        if stage.name in record:
            yield from verifier.stage(stage, record[stage.name])
        else:
            message = f"dvc.lock has no entry of this stage; run `dvc repro {stage.name}`, or restore dvc.lock from git"
            yield stage.name, [Damage(stage.name, message)]


def parameters(root: Path) -> dict[str, Any]:
    """Read params.yaml, to which dvc.yaml's `${…}` refer; empty if there is none. Raises SpecError if not valid."""
    if not (root / "params.yaml").exists():
        return {}
    try:
        value: dict[str, Any] = plain(read(root / "params.yaml", "params.yaml"))
    except DocumentError as error:
        raise SpecError([Diagnostic(error.message, error.mark)]) from None
    return value


def report(root: Path, cache: bool, remote: str | None, run_cache: bool) -> int:
    """Print all damages and return the exit code, 1 if there are any.

    Args:
        root: The checkout.
        cache: Check DVC's cache too.
        remote: The name of a remote that is checked too; None for none.
        run_cache: Check DVC's run cache too.

    Raises:
        SpecError: dvc.yaml, dvc.lock, params.yaml or DVC's configuration cannot be read.
    """
    opened = None if remote is None else Remote(root, remote)
    damaged, count = print_damages("outputs", verify(root, cache, opened))
    places = "".join([", in DVC's cache too" if cache else "", f", in the remote {remote} too" if remote else ""])
    print(f"{damaged} of {count} outputs are damaged" if damaged else f"all {count} outputs are as written{places}")
    if run_cache:
        bad, runs = print_damages("recorded runs", Verifier(root).run_cache())
        print(f"{bad} of {runs} recorded runs are damaged" if bad else f"all {runs} recorded runs are as written")
        damaged += bad
    return 1 if damaged else 0


def print_damages(noun: str, checked: Iterator[tuple[str, list[Damage]]]) -> tuple[int, int]:
    """Print each damage, and the progress if standard error is a terminal. Returns the numbers of damaged and of all
    items; `noun` names the items."""
    damaged = count = 0
    for path, damages in checked:
        count += 1
        damaged += bool(damages)
        if sys.stderr.isatty():
            print(f"\r{count} {noun}, now {printable(path)[:60]:<60}", end="", file=sys.stderr, flush=True)
        for item in damages:
            print(printable(f"{item.path}: {item.message}"))
    if sys.stderr.isatty():
        print(f"\r{'':<80}\r", end="", file=sys.stderr)
    return damaged, count
