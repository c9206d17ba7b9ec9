"""Bit rot: re-hash what the stages produced against dvc.lock, and name what is damaged.

DVC trusts its cache: a flipped bit there goes unnoticed through status, push and pull (DVC.md).
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roboalign.spec.diagnostics import Diagnostic, SpecError
from roboalign.spec.document import DocumentError
from roboalign.spec.lock import CACHE, Hashes, folder_hash, listing, locked, md5


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what dvc.lock says, and what is wrong with it."""

    path: str
    what: str


def verify(root: Path, cache: bool = False) -> Iterator[tuple[str, list[Damage]]]:
    """Each output that dvc.lock records with what is damaged in it; `cache` re-hashes DVC's copies too."""
    hashes = Hashes(root)
    for stage in locked(root).values():
        for path, entry in stage.outs.items():
            expected = str(entry.get("md5", ""))
            damaged = workspace(root, hashes, path, expected)
            if cache:
                damaged += cached(root, path, expected)
            yield path, damaged


def workspace(root: Path, hashes: Hashes, path: str, expected: str) -> list[Damage]:
    """What is damaged of an output in the workspace."""
    full = root / path
    if not full.exists():
        return [Damage(path, "is missing; `dvc checkout` restores it")]
    if not full.is_dir():
        return [] if md5(full) == expected else [Damage(path, "is not what the stage wrote")]
    have = {name: md5(file) for name, file in hashes.files(full)}
    if folder_hash(have) == expected:
        return []
    want = listing(root, expected)
    if want is None:
        return [Damage(path, "is not what the stage wrote (DVC's cache has no list of its files to say which)")]
    found = [Damage(f"{path}/{name}", "is missing") for name in sorted(want.keys() - have.keys())]
    found += [Damage(f"{path}/{name}", "was added") for name in sorted(have.keys() - want.keys())]
    both = sorted(want.keys() & have.keys())
    return found + [Damage(f"{path}/{name}", "is damaged") for name in both if want[name] != have[name]]


def cached(root: Path, path: str, expected: str) -> list[Damage]:
    """What is damaged of an output's copies in DVC's cache; what is not cached at all is not damaged."""
    file = root / CACHE / expected[:2] / expected[2:]
    if not file.exists():
        return []
    remedy = "is damaged; remove it, then `dvc pull`, or `dvc repro --force` its stage"
    if not expected.endswith(".dir"):
        return [] if md5(file) == expected else [Damage(str(file.relative_to(root)), remedy)]
    files = listing(root, expected)
    if files is None:
        return [Damage(str(file.relative_to(root)), remedy)]
    found = []
    for name, value in files.items():
        copy = root / CACHE / value[:2] / value[2:]
        if copy.exists() and md5(copy) != value:
            found.append(Damage(str(copy.relative_to(root)), f"({path}/{name}) {remedy}"))
    return found


def report(root: Path, cache: bool) -> int:
    """Print what is damaged; exit code 1 where anything is. Raises SpecError where dvc.lock cannot be read."""
    count = bad = 0
    try:
        for path, damaged in verify(root, cache):
            count += 1
            bad += bool(damaged)
            if sys.stderr.isatty():
                print(f"\r{count} outputs, now {path[:60]:<60}", end="", file=sys.stderr, flush=True)
            for item in damaged:
                print(f"{item.path}: {item.what}")
    except DocumentError as error:
        raise SpecError([Diagnostic(error.message, error.mark)]) from None
    if sys.stderr.isatty():
        print(f"\r{'':<80}\r", end="", file=sys.stderr)
    if count == 0:
        print("dvc.lock records no outputs; run `dvc repro` first")
        return 0
    print(f"{bad} of {count} outputs are damaged" if bad else f"all {count} outputs are as their stages wrote them")
    return 1 if bad else 0
