"""Curves of the page, from the TSV files that the stages write.

A file has one column for x (`step`, `frame`, …), text columns that name the series, and number columns, each with its
bounds in `<column>_low` and `<column>_high` where it has an interval. One panel is drawn for each number column.
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
"""Columns that can be x, the first present wins, and what is written below the axis."""


WIDE = 20
"""A curve gets a logarithmic axis where its largest value is more than this many times its smallest."""


def as_number(text: str | None) -> float | None:
    """The finite number in a cell; None where it is empty or text."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) else None


def columns(rows: Rows) -> tuple[str | None, list[str], list[str]]:
    """The x column (None: there is none), the text columns, and the number columns without bounds."""
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
    """A panel for each number column; series by the text columns, those that `keep` accepts by their joined names."""
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
        drawn = [
            line
            for number, (name, group) in enumerate(groups.items())
            if (line := _series(name or column, group, x, column, number)) is not None
        ]
        if drawn:
            values = [value for line in drawn for value in line.y]
            wide = min(values) > 0 and max(values) > WIDE * min(values)
            result.append(Panel(title(column), X_COLUMNS[x], drawn, log=wide and column in log))
    return result


def _series(name: str, group: Rows, x: str, column: str, colour: int) -> Series | None:
    points = [
        (at, value, as_number(row.get(f"{column}_low")), as_number(row.get(f"{column}_high")))
        for row in group
        if (at := as_number(row[x])) is not None and (value := as_number(row.get(column))) is not None
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
