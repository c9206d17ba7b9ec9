"""The file that a served study saves to: JSON Lines of `Annotation`, on the disk before the page hears of them."""

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
"""How each line of `Annotation.line` begins: tells the rest of our own line from another program's."""


class AnswersInUseError(OSError):
    """Another server saves to the file; the message names it and says what to do."""


class Answers:
    """The annotations in a file, in the order of their first keeping; a new one is appended, a changed one replaced.

    The file is locked until `close`. An annotation is kept in memory only after it was written and synchronised, so
    what `len` and `by_place` tell is on the disk.
    """

    def __init__(self, path: Path, reward: RewardSpec, clips: Collection[str]) -> None:
        """Lock and read `path`, which may be absent.

        The rest of a last line, left by a server that was killed while it wrote, is cut off: the page that sent it was
        never told that it is saved, and sends it again.

        Raises:
            AnnotationError: The file holds anything else than annotations of these `clips`; it is left as it is.
            AnswersInUseError: Another server holds the lock.
        """
        self.path, self.reward, self.clips = path.resolve(), reward, clips
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._held = _acquire(self.path, path)
        try:
            self.dropped = _cut_unfinished_line(self.path, reward)
            known = read_annotations([str(self.path)], reward, clips) if self.path.exists() else ()
        except BaseException:
            self.close()
            raise
        self._rows: dict[Key, Annotation] = {key(one): one for one in known}
        self._written = _state(self.path)
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file to other servers."""
        Path(self._held.name).unlink(missing_ok=True)
        self._held.close()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, text: str) -> None:
        """Save one line; when this returns it is on the disk.

        Raises:
            AnnotationError: The text is not an annotation.
            OSError: It could not be written; file and memory are as before.
        """
        row = parse(text, "answer", self.reward, self.clips)
        with self._lock:
            if (
                _state(self.path) != self._written
            ):  # a rewrite would lose what was added, and what was lost is not saved
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
                left = memoryview(line)
                while left:
                    left = left[os.write(file, left) :]
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
        """The scores by rater and place on the page; `places` are those of each clip and showing."""
        found: dict[str, dict[int, dict[str, float]]] = {}
        for (clip, rater, showing), row in list(self._rows.items()):
            if (clip, showing) in places:
                found.setdefault(rater, {})[places[clip, showing]] = dict(row.scores)
        return found


def _state(path: Path) -> tuple[int, int, int] | None:
    """What tells that another program wrote to a file: its inode, size and time; None if there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def key(row: Annotation) -> Key:
    """What a file holds one line of."""
    return row.clip, row.rater, row.showing


def _acquire(path: Path, name: Path) -> IO[str]:
    """Lock the answers at `path`, called `name` in the message, until the returned file is closed.

    The lock is a file beside them, because rewriting them replaces their inode. Raises AnswersInUseError.
    """
    place = path.with_name(f".{path.name}.lock")
    while True:
        file = place.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            process = file.read(20).strip() or "unknown"
            file.close()
            raise AnswersInUseError(
                f"{name}: another server (process {process}) saves to it; use that one, end it, or name another file "
                "by --answers"
            ) from None
        # The server that held it may have removed it in between: then this is no longer the file of that name.
        if _is_at(file, place):
            break
        file.close()
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _is_at(file: IO[str], place: Path) -> bool:
    """Whether an open file is the one at `place`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), place.stat())
    except FileNotFoundError:
        return False


def _cut_unfinished_line(path: Path, reward: RewardSpec) -> bool:
    """Cut off the beginning of one of our lines at the end of the file; whether there was one.

    A last line that lacks nothing but its end gets it. Anything else is left for the reader to refuse.
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
