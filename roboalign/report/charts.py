"""Curves of the page, from the TSV files of the stages.

A file has one column for x (`step`, `frame`, …), text columns that name the series, and number columns, with the bounds
of intervals in `<column>_low` and `<column>_high`. Each number column gives one panel.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite

from roboalign.report.names import model, title
from roboalign.report.plots import Panel, Series

Rows = Sequence[Mapping[str, str]]

X_COLUMNS: Mapping[str, str] = {
    "step": "step",
    "frame": "frame",
    "age": "age of the context (frames)",
    "window": "window W (frames)",
    "update": "policy update",
}
"""Columns that can be x, with the label of the axis; the first one in a file is used."""


WIDE = 20
"""Ratio of maximum and minimum of a panel above which its y axis may be logarithmic."""


def as_number(text: str | None) -> float | None:
    """The finite number in a cell; None if the cell is empty, text, NaN or infinite."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) else None


def columns(rows: Rows) -> tuple[str | None, list[str], list[str]]:
    """The x column (None if there is none), the text columns, and the number columns without bounds and counts."""
    names = list(rows[0]) if rows else []
    x = next((name for name in X_COLUMNS if name in names), None)
    texts, numbers = [], []
    for name in names:
        filled = [row[name] for row in rows if row.get(name)]
        if name == x or not filled:
            continue
        if any(as_number(cell) is None for cell in filled):
            texts.append(name)
        elif not name.endswith(("_low", "_high")) and name not in ("n", "count", "epoch"):
            numbers.append(name)
    return x, texts, numbers


def panels(
    rows: Rows,
    *,
    keep: Callable[[str], bool] = lambda _: True,
    only: Sequence[str] | None = None,
    log: Sequence[str] = (),
) -> list[Panel]:
    """The panels of a file, one for each number column.

    Args:
        rows: The file's rows.
        keep: Whether to show a series, by its text columns joined with ".".
        only: Number columns to show; None for all.
        log: Columns with a logarithmic y axis if their range is wide.
    """
    x, texts, numbers = columns(rows)
    if x is None:
        return []
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(".".join(row[name] for name in texts if row[name]), []).append(row)
    groups = {name: group for name, group in groups.items() if keep(name)}
    result = []
    for column in numbers:
        if only is not None and column not in only:
            continue
        series = [
            line
            for number, (name, group) in enumerate(groups.items())
            if (line := _series(name or column, group, x, column, number)) is not None
        ]
        if series:
            values = [value for line in series for value in line.y]
            wide = min(values) > 0 and max(values) > WIDE * min(values)
            result.append(Panel(title(column), X_COLUMNS[x], series, log=wide and column in log))
    return result


def _series(name: str, group: Rows, x: str, column: str, colour: int) -> Series | None:
    """One line, sorted by x, with a band if all points have bounds; None if there are no points."""
    points = [
        (position, value, as_number(row.get(f"{column}_low")), as_number(row.get(f"{column}_high")))
        for row in group
        if (position := as_number(row[x])) is not None and (value := as_number(row.get(column))) is not None
    ]
    if not points:
        return None
    points.sort(key=lambda point: point[0])
    low = [point[2] for point in points if point[2] is not None]
    high = [point[3] for point in points if point[3] is not None]
    banded = len(low) == len(high) == len(points)
    return Series(
        model(name),
        [point[0] for point in points],
        [point[1] for point in points],
        low if banded else None,
        high if banded else None,
        colour,
    )
