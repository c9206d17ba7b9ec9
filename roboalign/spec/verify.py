"""Bit rot: re-hash what the stages produced against dvc.lock, and name what is damaged.

DVC trusts its cache and its remotes: a flipped bit there goes unnoticed through status, push and pull (docs/dvc.md).
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
from roboalign.spec.lock import ENTRY, Cache, Hashes, Locked, LockedEntry, folder_hash, md5, parse_listing, read_lock
from roboalign.spec.remote import Remote
from roboalign.spec.validation import validate


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what dvc.lock says, and what is wrong with it."""

    path: str
    what: str


@dataclass
class Verifier:
    """Re-hashes outputs, and on request DVC's cache and a remote; each object once."""

    root: Path
    check_cache: bool = False
    remote: Remote | None = None
    hashes: Hashes = field(init=False)
    cache: Cache = field(init=False)
    cached_objects: dict[str, str] = field(default_factory=dict)
    """What is wrong with the objects of the cache that were hashed; '' if nothing is."""

    def __post_init__(self) -> None:
        self.hashes, self.cache = Hashes(self.root), Cache(self.root)

    def stage(self, stage: Stage, record: Locked) -> Iterator[tuple[str, list[Damage]]]:
        """Each output of a stage with what is damaged in it."""
        for path in stage.outs:
            expected = record.outs.get(path, {}).get("md5")
            if expected is None:
                yield path, [Damage(path, f"dvc.lock has no hash of it; run `dvc repro {stage.name}`")]
                continue
            damaged = self.workspace(path, expected)
            if self.check_cache and path in stage.cached:
                damaged += self.in_cache(path, expected)
            if self.remote is not None and path in stage.pushed:
                damaged += self.in_remote(self.remote, path, expected)
            yield path, damaged

    def workspace(self, path: str, expected: str) -> list[Damage]:
        """What is damaged of an output in the workspace."""
        full = self.root / path
        if not full.exists():
            return [Damage(path, "is missing; `dvc checkout` restores it")]
        try:
            if not full.is_dir():
                same = full.is_file() and md5(full) == expected
                return [] if same else [Damage(path, "is not what the stage wrote")]
            have = {name: md5(file) for name, file in self.hashes.files(full)}
        except OSError as error:
            return [Damage(path, f"cannot be read ({error})")]
        if folder_hash(have) == expected:
            return []
        want = self.cache.listing(expected)
        if want is None:
            return [Damage(path, "is not what the stage wrote (DVC's cache has no list of its files to say which)")]
        found = [Damage(f"{path}/{name}", "is missing") for name in sorted(want.keys() - have.keys())]
        found += [Damage(f"{path}/{name}", "was added") for name in sorted(have.keys() - want.keys())]
        both = sorted(want.keys() & have.keys())
        return found + [Damage(f"{path}/{name}", "is damaged") for name in both if want[name] != have[name]]

    def in_cache(self, path: str, expected: str) -> list[Damage]:
        """What is damaged of an output's copies in DVC's cache."""
        found = self._objects(path, {"": expected})
        listed = self.cache.listing(expected) if expected.endswith(".dir") else None
        return found + self._objects(path, listed or {})

    def _objects(self, path: str, files: dict[str, str]) -> list[Damage]:
        """What is damaged of the objects of the cache for `files`, by their names in an output."""
        found = []
        for name, value in files.items():
            if what := self.cached_object(value):
                of = f"({path}/{name}) " if name else ""
                found.append(Damage(str(self.cache.path(value)), f"{of}{what}"))
        return found

    def cached_object(self, value: str) -> str:
        """What is wrong with the cache's object with a hash; '' if nothing is."""
        if value not in self.cached_objects:
            file = self.cache.path(value)
            try:
                is_list = value.endswith(".dir")
                same = parse_listing(file.read_bytes(), value) is not None if is_list else md5(file) == value
                what = "" if same else "is damaged; remove it, then `dvc pull`, or `dvc repro --force` its stage"
            except FileNotFoundError:
                what = "is not in DVC's cache; `dvc commit` puts it there, or `dvc pull`"
            except OSError as error:
                what = f"cannot be read ({error.strerror})"
            self.cached_objects[value] = what
        return self.cached_objects[value]

    def in_remote(self, remote: Remote, path: str, expected: str) -> list[Damage]:
        """What is damaged of an output's copies in a remote; all of it is downloaded."""
        files = {"": expected}
        if expected.endswith(".dir"):
            data = remote.read(expected)
            listed = parse_listing(data, expected) if isinstance(data, bytes) else None
            if listed is None:
                what = "is damaged" if isinstance(data, bytes) else data
                return [Damage(remote.place(expected), f"({path}) {what}; {remote.remedy}")]
            files = listed
        found = []
        for (name, value), what in zip(files.items(), remote.check(files.values()), strict=True):
            if what:
                of = f"{path}/{name}" if name else path
                found.append(Damage(remote.place(value), f"({of}) {what}; {remote.remedy}"))
        return found

    def run_cache(self) -> Iterator[tuple[str, list[Damage]]]:
        """Each recorded run of DVC's run cache with what is damaged in it and in its outputs that the cache holds."""
        folder = self.cache.folder / "runs"
        for file in sorted(file for file in folder.glob("??/*/*") if file.is_file()):
            run = _recorded_run(file)
            if run is None:
                yield str(file), [Damage(str(file), "is damaged; remove it, and DVC runs its stage again")]
                continue
            damaged = []
            for out in run.outs:
                if out.md5 is not None and self.cache.path(out.md5).exists():
                    damaged += [each for each in self.in_cache(out.path, out.md5) if Path(each.path).exists()]
            yield str(file), damaged


def _recorded_run(file: Path) -> LockedEntry | None:
    """A run of the run cache, or None if it is not one whose content has the hash that is its name."""
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
    """What DVC hashes of a recorded run."""
    if isinstance(value, dict):
        return {key: _without_sizes(item) for key, item in value.items() if key not in ("size", "nfiles")}
    return [_without_sizes(item) for item in value] if isinstance(value, list) else value


def verify(root: Path, cache: bool = False, remote: Remote | None = None) -> Iterator[tuple[str, list[Damage]]]:
    """Each output of dvc.yaml's stages with what is damaged in it; stages without an entry in dvc.lock, too.

    Args:
        root: The checkout.
        cache: Re-hash DVC's copies too.
        remote: Download and re-hash its copies too.

    Raises:
        SpecError: dvc.yaml, dvc.lock, params.yaml or DVC's configuration cannot be read.
    """
    verifier = Verifier(root, cache, remote)
    declared, record = stages(root, parameters(root)), read_lock(root)
    for stage in declared:
        if stage.name in record:
            yield from verifier.stage(stage, record[stage.name])
        else:
            what = f"dvc.lock has no entry of this stage; run `dvc repro {stage.name}`, or restore dvc.lock from git"
            yield stage.name, [Damage(stage.name, what)]


def parameters(root: Path) -> dict[str, Any]:
    """params.yaml, whose values dvc.yaml names; empty if there is none. Raises SpecError if it cannot be read."""
    if not (root / "params.yaml").exists():
        return {}
    try:
        value: dict[str, Any] = plain(read(root / "params.yaml", "params.yaml"))
    except DocumentError as error:
        raise SpecError([Diagnostic(error.message, error.mark)]) from None
    return value


def report(root: Path, cache: bool, remote: str | None, run_cache: bool) -> int:
    """Print what is damaged; exit code 1 if anything is. Raises SpecError if dvc.yaml or dvc.lock cannot be read."""
    opened = None if remote is None else Remote(root, remote)
    bad, count = print_damages("outputs", verify(root, cache, opened))
    places = "".join([", in DVC's cache too" if cache else "", f", in the remote {remote} too" if remote else ""])
    print(f"{bad} of {count} outputs are damaged" if bad else f"all {count} outputs are as written{places}")
    if run_cache:
        wrong, runs = print_damages("recorded runs", Verifier(root).run_cache())
        print(f"{wrong} of {runs} recorded runs are damaged" if wrong else f"all {runs} recorded runs are as written")
        bad += wrong
    return 1 if bad else 0


def print_damages(things: str, found: Iterator[tuple[str, list[Damage]]]) -> tuple[int, int]:
    """Print each damage; how many things are damaged, and how many there are."""
    bad = count = 0
    for path, damaged in found:
        count += 1
        bad += bool(damaged)
        if sys.stderr.isatty():
            print(f"\r{count} {things}, now {printable(path)[:60]:<60}", end="", file=sys.stderr, flush=True)
        for item in damaged:
            print(printable(f"{item.path}: {item.what}"))
    if sys.stderr.isatty():
        print(f"\r{'':<80}\r", end="", file=sys.stderr)
    return bad, count
