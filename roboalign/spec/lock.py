"""dvc.lock, DVC's cache, and hashes of files as DVC computes them; imports dvc only if its configuration is needed.

Verified against DVC 3: a file's hash is the MD5 of its bytes. A folder's hash is the MD5 of the JSON list of its files'
hashes and relative paths, sorted by path, followed by `.dir`.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from roboalign.spec.diagnostics import Diagnostic, SpecError
from roboalign.spec.document import Mark, Source
from roboalign.spec.graph import entries, parse_entry, read_tracked


class LockedPath(BaseModel):
    """A dependency or output in dvc.lock."""

    model_config = ConfigDict(strict=True, extra="ignore")

    path: str
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")] | None = None
    size: int | None = None
    nfiles: int | None = None


class LockedEntry(BaseModel):
    """A stage in dvc.lock."""

    model_config = ConfigDict(strict=True, extra="ignore")

    cmd: str | list[str]
    deps: list[LockedPath] = []
    params: dict[str, dict[str, Any]] = {}
    outs: list[LockedPath] = []


ENTRY = TypeAdapter(LockedEntry)


@dataclass(frozen=True)
class LockedStage:
    """The last run of a stage according to dvc.lock; `deps` and `outs` by path, `params` by file."""

    cmd: str
    deps: dict[str, dict[str, Any]]
    params: dict[str, dict[str, Any]]
    outs: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_lock(root: Path) -> dict[str, LockedStage]:
    """Read dvc.lock, by stage; empty if there is none. Raises SpecError if it is damaged."""
    if not (root / "dvc.lock").exists():
        return {}
    result = {}
    for name, entry in entries(read_tracked(root, "dvc.lock"), "dvc.lock").items():
        stage: LockedEntry = parse_entry(ENTRY, LockedEntry, entry)
        command = stage.cmd if isinstance(stage.cmd, str) else json.dumps(stage.cmd, ensure_ascii=False)
        deps, outs = (
            {each.path: each.model_dump(exclude_none=True) for each in part} for part in (stage.deps, stage.outs)
        )
        result[name] = LockedStage(command, deps, stage.params, outs)
    return result


class Cache:
    """DVC's cache, in the folder that DVC's configuration names."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def folder(self) -> Path:
        """Folder of the cache, as printed by `dvc cache dir`. Raises SpecError if the configuration is damaged."""
        default = self.root / ".dvc/cache"
        if not (self.root / ".dvc").is_dir():
            return default
        from dvc.config import Config, ConfigError

        try:
            configured = Config(str(self.root / ".dvc"))["cache"].get("dir")
        except (ConfigError, OSError) as error:
            raise SpecError([Diagnostic(f"DVC's configuration: {error}", Mark(Source(".dvc/config")))]) from None
        return Path(configured) if configured else default

    def path(self, value: str) -> Path:
        """The file of the object with the hash `value`."""
        return self.folder / "files/md5" / value[:2] / value[2:]

    def listing(self, value: str) -> dict[str, str] | None:
        """The hashes of a folder's files by name; None if the cache lacks the list or it is damaged."""
        try:
            return parse_listing(self.path(value).read_bytes(), value)
        except OSError:
            return None


def parse_listing(data: bytes, value: str) -> dict[str, str] | None:
    """The hashes of a folder's files by name, from DVC's list `data`; None unless the list has the hash `value`."""
    try:
        files = {str(row["relpath"]): str(row["md5"]) for row in json.loads(data)}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return files if folder_hash(files) == value else None


class Hashes:
    """Hashes of files and folders as DVC computes them; each is computed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, str | None] = {}
        self.patterns = ignore_patterns(root)

    def of(self, path: str) -> str | None:
        """The hash of a file or folder, or None if it does not exist or cannot be read."""
        if path not in self.known:
            full = self.root / path
            try:
                if full.is_dir():
                    self.known[path] = folder_hash({name: md5(file) for name, file in self.files(full)})
                else:
                    self.known[path] = md5(full) if full.is_file() else None
            except OSError:
                self.known[path] = None
        return self.known[path]

    def files(self, folder: Path) -> Iterator[tuple[str, Path]]:
        """Relative name and path of the files below a folder, sorted, without those that .dvcignore excludes."""
        for entry in sorted(folder.iterdir()):
            if self.ignores(entry):
                continue
            if entry.is_dir():
                yield from ((f"{entry.name}/{name}", file) for name, file in self.files(entry))
            elif entry.is_file():
                yield entry.name, entry

    def ignores(self, path: Path) -> bool:
        """Whether .dvcignore excludes the path. Only patterns without a slash in the middle are supported; this
        project has no others."""
        for pattern in self.patterns:
            if pattern.endswith("/") and not path.is_dir():
                continue
            if fnmatchcase(path.name, pattern.rstrip("/")):
                return True
        return False


def ignore_patterns(root: Path) -> tuple[str, ...]:
    """The patterns of .dvcignore, after those that DVC always ignores."""
    file = root / ".dvcignore"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return (".git/", ".hg/", ".dvc/", *patterns)


def md5(path: Path) -> str:
    """The MD5 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def bytes_md5(data: bytes) -> str:
    """The MD5 of `data`, in hexadecimal."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def folder_hash(files: dict[str, str]) -> str:
    """DVC's hash of a folder, given the MD5 of each file by its relative path."""
    rows = [{"md5": value, "relpath": name} for name, value in sorted(files.items())]
    return bytes_md5(json.dumps(rows, sort_keys=True).encode()) + ".dir"
