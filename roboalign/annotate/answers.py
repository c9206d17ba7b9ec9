"""The file that a served study saves to: JSON lines of `Annotation`, each on the disk before the page hears of it."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from threading import Lock

from roboalign.bench.annotations import Annotation, AnnotationError, parse, read_annotations
from roboalign.io import write_text
from roboalign.reward.spec import RewardSpec

Key = tuple[str, str, int]
"""Clip, rater, showing."""


class Answers:
    """The annotations in a file, in the order of their first keeping; a new one is appended, a changed one replaced."""

    def __init__(self, path: Path, reward: RewardSpec, clips: Collection[str]) -> None:
        """Read `path`, where it exists. Half a last line, of a server that was killed while it wrote, is dropped: the
        page that sent it was never told that it is saved, and sends it again.

        Raises AnnotationError where the file holds anything else than annotations of these `clips`.
        """
        self.path, self.reward, self.clips = path, reward, clips
        self.dropped = _repair(path, reward)
        self._rows: dict[Key, Annotation] = {}
        self._lock = Lock()
        if path.exists():
            self._rows = {key(one): one for one in read_annotations([str(path)], reward, clips)}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, text: str) -> None:
        """Save one line; when this returns it is on the disk. Raises AnnotationError where it is no annotation."""
        row = parse(text, "answer", self.reward, self.clips)
        with self._lock:
            before = self._rows.get(key(row))
            if before == row:
                return
            self._rows[key(row)] = row
            if before is not None:
                write_text(self.path, "".join(one.line() for one in self._rows.values()))
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(row.line())
                file.flush()
                os.fsync(file.fileno())

    def by_place(self, places: Mapping[tuple[str, int], int]) -> dict[str, dict[int, dict[str, float]]]:
        """The scores by rater and place on the page; `places` are those of each clip and showing."""
        found: dict[str, dict[int, dict[str, float]]] = {}
        for (clip, rater, showing), row in self._rows.items():
            if (clip, showing) in places:
                found.setdefault(rater, {})[places[clip, showing]] = dict(row.scores)
        return found


def key(row: Annotation) -> Key:
    """What a file holds one line of."""
    return row.clip, row.rater, row.showing


def _repair(path: Path, reward: RewardSpec) -> bool:
    """Cut an unfinished last line off; whether there was one."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if not text or text.endswith("\n"):
        return False
    head, _, last = text.rpartition("\n")
    try:
        parse(last, "", reward)
    except AnnotationError:
        write_text(path, f"{head}\n" if head else "")
        return True
    write_text(path, f"{text}\n")  # whole, but for its end
    return False
