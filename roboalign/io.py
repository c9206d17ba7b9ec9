"""Reading and writing of files: writes are atomic and deterministic, and nothing is unpickled."""

import csv
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from roboalign.errors import StageError
from roboalign.types import Json


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which replaces `path` if the block succeeds and is removed if it raises.

    After the block, the file is on the disk under its name, even after a power failure.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, if its file system supports that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def json_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line of JSON Lines that is not blank.

    Only a line feed ends a line. `str.splitlines` would also split at characters that JSON text may contain, such as
    U+2028.
    """
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def find_output(root: Path, path: str | Path) -> Path:
    """A file or folder of the experiment at `root` by its path there. Raises StageError if it does not exist."""
    if not (root / path).exists():
        raise StageError(f"{path} is missing; run `dvc repro` or `dvc pull`")
    return root / path


def parse_json(text: str | bytes) -> Any:
    """A JSON document from a place that is not trusted. Raises ValueError, also if it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def round_floats(value: Json, digits: int = 6) -> Json:
    """A copy of `value` with every float rounded to `digits` significant digits, so that files do not contain noise.

    Raises ValueError on NaN or infinity, because metrics that could not be measured must be left out.
    """
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("a metric is NaN or infinite; leave its key out and log the reason")
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {str(key): round_floats(item, digits) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [round_floats(item, digits) for item in value]
    return value


def write_json(path: Path, value: Json) -> None:
    """Write a JSON document with sorted keys and floats of six digits. Raises ValueError on NaN and infinity."""
    write_text(
        path, json.dumps(round_floats(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: Path) -> Any:
    """Read a JSON document. Raises ValueError if it is not one."""
    return parse_json(path.read_text(encoding="utf-8"))


def write_tsv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as tab-separated values, with the union of their keys as columns in order of first appearance.

    `dvc plots` and the report read curves in this format. Floats have six digits; absent cells are empty.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: round_floats(value) for key, value in row.items()} for row in rows)


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Read a file that `write_tsv` wrote; all cells are text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def digest(paths: Sequence[Path], *texts: str) -> str:
    """The hash of files and folders (relative names and contents) and of `texts`, as 32 hexadecimal digits.

    Compiled Python files are ignored. Raises FileNotFoundError if a path is missing.
    """
    state = hashlib.blake2b(digest_size=16)
    for text in texts:
        state.update(f"text {len(text.encode())}\0{text}".encode())
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(path)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" in file.parts:
                continue
            name = file.relative_to(path).as_posix() if path.is_dir() else ""
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            state.update(f"{path.name}/{name} {content}\n".encode())
    return state.hexdigest()


_LFS_POINTER = re.compile(rb"version https://(?:git-lfs|hawser)\.github\.com/spec/v1\s[^\0]*?^size (\d{1,18})$", re.M)
LFS_POINTER_SIZE = 1024
"""Maximum size of a Git LFS pointer in bytes, by its specification."""


def lfs_size(file: IO[bytes]) -> int | None:
    """The size in bytes of the file that a Git LFS pointer refers to; None if `file` is not a pointer.

    Seeks to the beginning of the file.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size >= LFS_POINTER_SIZE:
        return None
    match = _LFS_POINTER.match(file.read(LFS_POINTER_SIZE))
    file.seek(0)
    return int(match[1]) if match else None
