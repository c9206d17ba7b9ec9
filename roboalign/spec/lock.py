"""What dvc.yaml declares and what dvc.lock records, without importing dvc: stages, their hashes, and file hashes.

Verified against DVC 3: a file's hash is the MD5 of its bytes; a folder's is the MD5 of the JSON list of its files'
hashes and relative paths, sorted by path, with `.dir` after it.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from roboalign.spec.document import plain, read

LARGEST = 256 * 1024 * 1024
"""dvc.yaml and dvc.lock are written by tools, not by strangers; their limits are wide."""


CACHE = Path(".dvc/cache/files/md5")
"""DVC's local cache where no other place is configured."""


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml, one item of its matrix where it has one."""

    name: str
    cmd: str
    deps: tuple[str, ...]
    params: tuple[tuple[str, str], ...]
    """Pairs of a file and a dotted key in it."""
    outs: tuple[str, ...]


@dataclass(frozen=True)
class Locked:
    """What dvc.lock records of a stage's last run."""

    cmd: str
    deps: dict[str, dict[str, Any]]
    params: dict[str, dict[str, Any]]
    outs: dict[str, dict[str, Any]] = field(default_factory=dict)


def stages(root: Path, params: dict[str, Any]) -> list[Stage]:
    """dvc.yaml's stages in its order, `${…}` filled in from `params`. Raises DocumentError, or ValueError."""
    value = plain(read(root / "dvc.yaml", "dvc.yaml", size=LARGEST, nodes=10**6))
    result = []
    for name, stage in value.get("stages", {}).items():
        matrix = stage.get("matrix")
        if matrix is None:
            result.append(declared(name, stage, params))
            continue
        if len(matrix) != 1:
            raise ValueError(f"dvc.yaml: the matrix of {name} has {len(matrix)} axes; plan knows one")
        axis, values = next(iter(matrix.items()))
        items = filled(values, params) if isinstance(values, str) else values
        result += [declared(f"{name}@{item}", stage, {**params, "item": {axis: item}}) for item in items]
    return result


def declared(name: str, stage: dict[str, Any], values: dict[str, Any]) -> Stage:
    """One stage with its `${…}` filled in."""

    def texts(key: str) -> Iterator[str]:
        for entry in stage.get(key, []):
            yield str(filled(entry if isinstance(entry, str) else next(iter(entry)), values))

    pairs = []
    for entry in stage.get("params", []):
        for file, keys in entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]:
            pairs += [(str(filled(file, values)), str(filled(key, values))) for key in keys]
    outs = [path for kind in ("outs", "metrics", "plots") for path in texts(kind)]
    return Stage(name, str(filled(stage["cmd"], values)), tuple(texts("deps")), tuple(pairs), tuple(outs))


def filled(text: str, values: dict[str, Any]) -> Any:
    """`text` with `${a.b}` replaced by the value there; the value itself where the text is nothing else."""

    def value(path: str) -> Any:
        found: Any = values
        for step in path.split("."):
            if not isinstance(found, dict) or step not in found:
                raise ValueError(f"dvc.yaml: ${{{path}}} is not in params.yaml")
            found = found[step]
        return found

    if whole := re.fullmatch(r"\$\{([\w.]+)\}", text):
        return value(whole[1])
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(value(match[1])), text)


def locked(root: Path) -> dict[str, Locked]:
    """dvc.lock by stage; empty where there is none. Raises DocumentError where it is damaged."""
    if not (root / "dvc.lock").exists():
        return {}
    value = plain(read(root / "dvc.lock", "dvc.lock", size=LARGEST, nodes=10**6))
    return {
        name: Locked(
            str(stage.get("cmd", "")),
            {entry["path"]: entry for entry in stage.get("deps", [])},
            stage.get("params", {}),
            {entry["path"]: entry for entry in stage.get("outs", [])},
        )
        for name, stage in (value.get("stages") or {}).items()
    }


class Hashes:
    """Hashes of files and folders as DVC computes them, each computed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, str | None] = {}
        self.patterns = ignored(root)

    def of(self, path: str) -> str | None:
        """The hash of a file or folder, or None where it does not exist."""
        if path not in self.known:
            full = self.root / path
            if full.is_dir():
                self.known[path] = folder_hash({name: md5(file) for name, file in self.files(full)})
            else:
                self.known[path] = md5(full) if full.is_file() else None
        return self.known[path]

    def files(self, folder: Path) -> Iterator[tuple[str, Path]]:
        """The files below a folder that .dvcignore does not leave out, with their relative names."""
        for entry in sorted(folder.iterdir()):
            if self.leaves_out(entry):
                continue
            if entry.is_dir():
                yield from ((f"{entry.name}/{name}", file) for name, file in self.files(entry))
            elif entry.is_file():
                yield entry.name, entry

    def leaves_out(self, path: Path) -> bool:
        """Whether .dvcignore leaves the path out: patterns without a slash in the middle, as this project has."""
        for pattern in self.patterns:
            if pattern.endswith("/") and not path.is_dir():
                continue
            if fnmatchcase(path.name, pattern.rstrip("/")):
                return True
        return False


def ignored(root: Path) -> tuple[str, ...]:
    """The patterns of .dvcignore, and those that DVC always ignores."""
    file = root / ".dvcignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    own = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return (".git/", ".hg/", ".dvc/", *own)


def md5(path: Path) -> str:
    """The MD5 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def bytes_md5(data: bytes) -> str:
    """The MD5 of some bytes."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def folder_hash(files: dict[str, str]) -> str:
    """DVC's hash of a folder with these files: MD5 by relative path."""
    rows = [{"md5": value, "relpath": name} for name, value in sorted(files.items())]
    return bytes_md5(json.dumps(rows, sort_keys=True).encode()) + ".dir"


def listing(root: Path, expected: str) -> dict[str, str] | None:
    """The files of a folder by DVC's cached list, or None where the cache lacks it or it is damaged itself."""
    file = root / CACHE / expected[:2] / expected[2:]
    try:
        files = {str(row["relpath"]): str(row["md5"]) for row in json.loads(file.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if folder_hash(files) == expected else None


def differences(old: Any, new: Any, path: str) -> list[str]:
    """The single values in which two sections differ: `rollout.decodings.swr.window 6 → 12`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*new, *(key for key in old if key not in new)]
        missing = object()
        found = []
        for key in keys:
            was, now = old.get(key, missing), new.get(key, missing)
            where = f"{path}.{key}" if path else str(key)
            if was is missing:
                found.append(f"{where} added")
            elif now is missing:
                found.append(f"{where} removed")
            else:
                found += differences(was, now, where)
        return found
    lists = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
    if lists and any(isinstance(item, (dict, list)) for item in [*old, *new]):
        return [d for n, (a, b) in enumerate(zip(old, new, strict=True)) for d in differences(a, b, f"{path}.{n}")]
    return [] if old == new else [f"{path} {brief(old)} → {brief(new)}"]


def brief(value: Any) -> str:
    """A value in a line of text."""
    text = "null" if value is None else json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 60 else text[:57] + "…"
