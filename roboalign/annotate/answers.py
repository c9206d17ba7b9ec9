"""The file to which a served study saves: JSON Lines of `Annotation`, each on the disk before it is acknowledged."""

import fcntl
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from threading import Lock
from typing import IO, Self

from roboalign.bench.annotations import Annotation, AnnotationError, parse, read_annotations
from roboalign.io import sync_folder, write_text
from roboalign.reward.spec import RewardSpec

Key = tuple[str, str, int]
"""Clip, rater, showing."""

LINE_START = b'{"clip":"'
"""Start of each line of `Annotation.line`, which identifies an unfinished line as one of ours."""


class AnswersInUseError(OSError):
    """Another server saves to the file; the message names the process and says what to do."""


class Answers:
    """The annotations in a file, in the order in which they were first saved.

    A new annotation is appended; a changed one replaces the earlier one. The file is locked until `close`. Annotations
    are added in memory only after they are on the disk, so `len` and `by_place` return what is on the disk.
    """

    def __init__(self, path: Path, reward: RewardSpec, clips: Collection[str]) -> None:
        """Lock and read a file.

        An unfinished last line, left by a server that was killed, is removed: its page was not told that it was saved
        and sends it again.

        Args:
            path: The file; it need not exist.
            reward: The dimensions that are scored.
            clips: The clips that may be scored.

        Raises:
            AnnotationError: The file has other content than annotations of these clips; it is not changed.
            AnswersInUseError: Another server has the lock.
        """
        self.path, self.reward, self.clips = path.resolve(), reward, clips
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = _acquire(self.path, path)
        try:
            self.dropped = _cut_unfinished_line(self.path, reward)
            rows = read_annotations([str(self.path)], reward, clips) if self.path.exists() else ()
        except BaseException:
            self.close()
            raise
        self._rows: dict[Key, Annotation] = {key(row): row for row in rows}
        self._written = _state(self.path)
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock."""
        Path(self._lock_file.name).unlink(missing_ok=True)
        self._lock_file.close()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, text: str) -> None:
        """Save one annotation, given as a line of JSON. When this returns, it is on the disk.

        Raises:
            AnnotationError: The text is not an annotation.
            OSError: It could not be written; file and memory are unchanged.
        """
        row = parse(text, "answer", self.reward, self.clips)
        with self._lock:
            # Rewriting a file that another program has changed would lose its changes.
            if _state(self.path) != self._written:
                raise OSError(f"another program changed {self.path}; end this server and start it again")
            before = self._rows.get(key(row))
            if before == row:
                return
            if before is None:
                self._append(row.line().encode("utf-8"))
            else:
                replaced = {**self._rows, key(row): row}
                write_text(self.path, "".join(one.line() for one in replaced.values()))
            self._written = _state(self.path)
            self._rows[key(row)] = row

    def _append(self, line: bytes) -> None:
        """Append a line and synchronise it, or leave the file as it was and raise OSError."""
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(file).st_size
        try:
            try:
                remaining = memoryview(line)
                while remaining:
                    remaining = remaining[os.write(file, remaining) :]
                os.fsync(file)
            except BaseException:
                os.ftruncate(file, size)
                self._written = _state(self.path)
                raise
        finally:
            os.close(file)
        if size == 0:
            sync_folder(self.path.parent)

    def by_place(self, places: Mapping[tuple[str, int], int]) -> dict[str, dict[int, dict[str, float]]]:
        """The scores by rater and place on the page, given the place of each (clip, showing)."""
        result: dict[str, dict[int, dict[str, float]]] = {}
        for (clip, rater, showing), row in list(self._rows.items()):
            if (clip, showing) in places:
                result.setdefault(rater, {})[places[clip, showing]] = dict(row.scores)
        return result


def _state(path: Path) -> tuple[int, int, int] | None:
    """Inode, size and modification time of a file, which reveal changes by other programs; None if it is missing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def key(row: Annotation) -> Key:
    """The key of an annotation, of which a file has one line."""
    return row.clip, row.rater, row.showing


def _acquire(path: Path, name: Path) -> IO[str]:
    """Lock the answers at `path`, called `name` in the message, until the returned lock file is closed.

    The lock is on a separate file, because rewriting the answers replaces their inode. Raises AnswersInUseError.
    """
    lock = path.with_name(f".{path.name}.lock")
    while True:
        file = lock.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            process = file.read(20).strip() or "unknown"
            file.close()
            raise AnswersInUseError(
                f"{name}: another server (process {process}) saves to it; use that server, end it, or choose another "
                "file by --answers"
            ) from None
        # The server that had the lock may have removed the file after it was opened here; then open it again.
        if _is_at(file, lock):
            break
        file.close()
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _cut_unfinished_line(path: Path, reward: RewardSpec) -> bool:
    """Remove an unfinished line of ours at the end of the file, and return whether there was one.

    A complete last line without a line feed gets one. Other content is left unchanged, and the reader rejects it.
    """
    data = path.read_bytes() if path.exists() else b""
    last = data[data.rfind(b"\n") + 1 :]
    if not last:
        return False
    try:
        parse(last.decode("utf-8", "replace"), "", reward)
    except AnnotationError:
        if last[: len(LINE_START)] != LINE_START[: len(last)]:
            return False
        os.truncate(path, len(data) - len(last))
        return True
    with path.open("ab") as file:
        file.write(b"\n")
    return False
