"""Errors in a compiler's format: file, line, column, message and remedy; then the source line with a caret."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from roboalign.errors import printable
from roboalign.spec.document import Mark


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error or note at one place; `suggestion` is the word to write there instead, '' if no known word is near."""

    message: str
    mark: Mark
    suggestion: str = ""
    severity: Literal["error", "note"] = "error"

    @property
    def text(self) -> str:
        """The message with its suggestion."""
        return f"{self.message}; did you mean '{self.suggestion}'?" if self.suggestion else self.message


class SpecError(Exception):
    """One or more errors in specs, all in `diagnostics`."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = sort_diagnostics(diagnostics)
        super().__init__("\n".join(render(item) for item in self.diagnostics))


def sort_diagnostics(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The diagnostics without duplicates, sorted by file, line and column."""
    unique = dict.fromkeys(diagnostics)
    return sorted(unique, key=lambda d: (d.mark.source.name, d.mark.line, d.mark.column, d.severity, d.text))


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether any diagnostic is an error (not a note)."""
    return any(item.severity == "error" for item in diagnostics)


WIDEST = 160
"""Characters of a source line that are shown."""


def render(item: Diagnostic) -> str:
    """The message, and below it the source line with carets under the marked columns."""
    mark = item.mark
    place = f"{mark.source.name}:{mark.line + 1}:{mark.column + 1}: " if mark.source.name else ""
    head = printable(f"{place}{item.severity}: {item.text}")
    if mark.line >= len(mark.source.lines) or not mark.source.lines[mark.line].strip():
        return head
    row = mark.source.lines[mark.line]
    start = max(0, mark.column - WIDEST // 2)
    # Each character is replaced by exactly one, so that the caret stays below its column.
    shown = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in row[start : start + WIDEST])
    end = mark.end_column if mark.end_line == mark.line else len(row.rstrip())
    width = max(1, min(end, start + WIDEST) - mark.column)
    blank = "".join("\t" if character == "\t" else " " for character in row[start : mark.column])
    number = str(mark.line + 1)
    return f"{head}\n {number} | {shown}\n {' ' * len(number)} | {blank}^{'~' * (width - 1)}"


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """The number of errors and of files with errors, such as `3 errors in 2 files`."""
    errors = [item for item in sort_diagnostics(diagnostics) if item.severity == "error"]
    files = len({item.mark.source.name for item in errors})
    return f"{len(errors)} error{'s'[: len(errors) != 1]} in {files} file{'s'[: files != 1]}"


def to_json(diagnostics: Iterable[Diagnostic]) -> str:
    """The diagnostics as a JSON list for editors; lines and columns count from 1, `end_column` is exclusive."""
    rows = [
        {
            "file": item.mark.source.name,
            "line": item.mark.line + 1,
            "column": item.mark.column + 1,
            "end_line": item.mark.end_line + 1,
            "end_column": item.mark.end_column + 1,
            "severity": item.severity,
            "message": printable(item.text),
            "suggestion": item.suggestion,
        }
        for item in sort_diagnostics(diagnostics)
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)


LONGEST_WORD = 64
"""Length in characters up to which a word may be treated as a misspelling."""
SUGGESTIONS = 20
"""Wrong words of one mapping or list that get a suggestion. More are unlikely to be misspellings, and searching takes
time."""


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate that `word` most likely misspells, or '': the fewest edits, then the most characters in common."""
    return _nearest(word, tuple(candidates)) if 0 < len(word) <= LONGEST_WORD else ""


@lru_cache(2**14)  # the same wrong file can be part of many experiments
def _nearest(word: str, candidates: tuple[str, ...]) -> str:
    scored = []
    for candidate in candidates:
        most = max(1, min(len(word), len(candidate)) // 3)
        if abs(len(word) - len(candidate)) > most:
            continue
        edits = distance(word.lower(), candidate.lower())
        if edits <= most:
            likeness = difflib.SequenceMatcher(None, word, candidate).ratio()
            scored.append((edits, -likeness, candidate))
    if scored:
        return min(scored)[2]
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.75)
    return close[0] if close else ""


def distance(left: str, right: str) -> int:
    """Edit distance (insert, delete, replace, swap neighbours) between two words, capped at 9."""
    if abs(len(left) - len(right)) > 8 or max(len(left), len(right)) > LONGEST_WORD:
        return 9
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        now = [i]
        for j, b in enumerate(right, 1):
            cost = min(row[j] + 1, now[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            now.append(cost)
        before, row = row, now
    return min(row[-1], 9)
