"""Tables of the page, from metrics files. A value that is absent gives an empty cell, never a zero."""

from collections.abc import Mapping, Sequence

from roboalign.report.blocks import Cell, Table, Tone
from roboalign.report.names import (
    DASH,
    FAITHFUL,
    bounds,
    dig,
    is_bound,
    mean_of,
    model,
    number,
    order,
    significant,
    title,
    words,
)
from roboalign.report.names import scorer as scorer_name
from roboalign.types import Json

MIN_EPISODES = 6
"""Minimum number of episodes for a difference to be coloured; with fewer, the signed-rank test cannot reach p = .05."""

HIGHER_IS_BETTER = ("psnr", "ssim")

EMPTY = Cell(DASH, tone="muted")


def estimate(value: Json, digits: int = 2, tone: Tone = "", sign: bool = False) -> Cell:
    """The cell of a mean with its interval as a note.

    Args:
        value: A number, or an interval {mean, low, high}; anything else gives an empty cell.
        digits: Decimals.
        tone: The cell's tone.
        sign: Put a plus before positive numbers.
    """
    mean, interval = mean_of(value), bounds(value)
    if mean is None:
        return EMPTY
    text = number(mean, digits)
    if sign and mean > 0 and float(f"{mean:.{digits}f}"):
        text = "+" + text
    note = "" if interval is None else f"{number(interval[0], digits)} to {number(interval[1], digits)}"
    return Cell(text, note, tone)


def difference_tone(value: Json) -> Tone:
    """`good` or `bad` if the interval of a difference excludes 0 and has at least MIN_EPISODES episodes, else ''."""
    interval = bounds(value)
    if interval is None or interval[0] <= 0 <= interval[1] or dig(value, "n") in range(MIN_EPISODES):
        return ""
    return "good" if interval[0] > 0 else "bad"


SCORES_NOTE = "Bold: the highest mean of a column. Grey: uses true later frames, so it is a bound and not a model."


def scores(evaluation: Json, scorer: str, dimensions: Sequence[Mapping[str, Json]], *, folded: bool = False) -> Table:
    """Scores by one scorer: one row for each clip set, one column for each dimension. The highest mean of each column
    is bold; bounds do not count."""
    models: Mapping[str, Json] = dig(evaluation, "models") or {}
    names = sorted((name for name in models if scorer in models[name]), key=order)
    columns = [*(str(dimension["name"]) for dimension in dimensions), "total"]
    max_scores = [float(dimension["max_score"]) for dimension in dimensions]
    head = ["Model"]
    for column, max_score in zip(columns, [*max_scores, sum(max_scores)], strict=True):
        head.append(f"{title(column)}\n0{DASH}{significant(float(max_score))}")
    ranked = [name for name in names if not is_bound(name)]
    best = {
        column: max((mean_of(dig(models, name, scorer, column)) or 0.0 for name in ranked), default=0.0)
        for column in columns
    }
    kind = "" if scorer.endswith(FAITHFUL) else ", absolute"
    rows: list[list[Cell]] = []
    counts: set[int] = set()
    for name in names:
        row = [Cell(model(name), tone="muted" if name not in ranked else "")]
        for column in columns:
            value = dig(models, name, scorer, column)
            counts.add(int(dig(value, "n") or 0))
            strong = name in ranked and mean_of(value) == best[column]
            row.append(estimate(value, tone="strong" if strong else ""))
        rows.append(row)
    return Table(
        f"{scorer_name(scorer)}{kind}: scores by dimension, {count_text(counts)}; mean and 95 % interval",
        head,
        rows,
        SCORES_NOTE,
        folded,
    )


def count_text(counts: set[int]) -> str:
    """The number of episodes for a caption: `n = 24 episodes`, or `n = 20 to 24 episodes` if they differ."""
    positive = sorted(counts - {0})
    if not positive:
        return "n unknown"
    return f"n = {positive[0]} episodes" if len(positive) == 1 else f"n = {positive[0]} to {positive[-1]} episodes"


def differences(
    evaluation: Json,
    dimensions: Sequence[Mapping[str, Json]],
    scorers: Sequence[str],
    kind: str,
    folded: bool = False,
) -> Table:
    """Paired differences of scores, one row for each comparison and scorer.

    Args:
        evaluation: metrics/evaluation.json.
        dimensions: The reward's dimensions.
        scorers: The scorers that are shown.
        kind: `faithful` or `absolute`, for the caption.
        folded: Collapse the table.
    """
    columns = [*(str(dimension["name"]) for dimension in dimensions), "total"]
    strongest = dig(evaluation, "strongest_baseline")
    rows: list[list[Cell]] = []
    for name, others in sorted((dig(evaluation, "differences") or {}).items(), key=lambda item: order(item[0])):
        for against, by_scorer in sorted(others.items(), key=lambda item: order(item[0])):
            suffix = " (the strongest baseline)" if against == strongest else ""
            for scorer in (each for each in scorers if each in by_scorer):
                values = by_scorer[scorer]
                row = [
                    Cell(model(name), f"minus {model(against)}{suffix}"),
                    Cell(scorer_name(scorer.removesuffix(FAITHFUL)), f"n = {dig(values, 'total', 'n')}"),
                ]
                for column in columns:
                    value = dig(values, column)
                    cell = estimate(value, 3, difference_tone(value), sign=True)
                    p = dig(value, "holm_p") if column != "total" else dig(value, "wilcoxon_p")
                    row.append(Cell(cell.text, cell.note + ("" if p is None else f"\n{p_value(p)}"), cell.tone))
                rows.append(row)
    return Table(
        f"Differences of {kind} scores, paired by episode: mean, 95 % interval, p",
        ["Comparison", "Scorer", *(title(column) for column in columns)],
        rows,
        "p by Wilcoxon's signed-rank test, two-sided; Holm's correction over the dimensions. Coloured: the interval "
        "excludes 0.",
        folded,
    )


def p_value(p: float) -> str:
    """A p-value as text: `p < .001`, `p = .03`."""
    return "p < .001" if p < 0.001 else f"p = {p:.2g}".replace("0.", ".")


def decodings(rollout: Json, metrics: Sequence[tuple[str, str, int]], caption: str, note: str = "") -> Table:
    """One row for each clip set, one column for each metric; rows and columns without values are left out.

    Args:
        rollout: metrics/rollout.json.
        metrics: (key, heading, decimals) of the columns.
        caption: The caption.
        note: The note below the table.
    """
    entries = {
        name: value
        for name, value in sorted((rollout or {}).items())
        if any(mean_of(dig(value, key)) is not None for key, _, _ in metrics)
    }
    columns = [item for item in metrics if any(mean_of(dig(value, item[0])) is not None for value in entries.values())]
    rows = [
        [
            Cell(model(name), tone="muted" if is_bound(name) else ""),
            *(estimate(dig(entries[name], key), digits) for key, _, digits in columns),
        ]
        for name in sorted(entries, key=order)
    ]
    return Table(caption, ["Model and decoding", *(heading for _, heading, _ in columns)], rows, note)


def against(
    rollout: Json,
    first: str,
    second: str,
    metrics: Sequence[tuple[str, str, int]],
    caption: str,
    published: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """The SWR table in the paper's layout: metric, plain autoregression, SWR, change, relative change.

    The change is coloured if the interval of the paired difference excludes 0; lower is better for distances.

    Args:
        rollout: metrics/rollout.json.
        first: The clip set of plain autoregression.
        second: The clip set of SWR.
        metrics: (key, heading, decimals) of the rows.
        caption: The caption.
        published: The paper's values of plain autoregression, of SWR and of the change by key, as reference columns.
    """
    rows: list[list[Cell]] = []
    for key, heading, digits in metrics:
        a, b = mean_of(dig(rollout, first, key)), mean_of(dig(rollout, second, key))
        if a is None or b is None:
            continue
        paired = dig(rollout, second, "less_ar", key)
        gain = b - a if mean_of(paired) is None else float(mean_of(paired) or 0.0)
        change = estimate(paired if bounds(paired) else gain, digits, sign=True)
        tone = _tone(key, paired)
        relative = "" if key == "psnr" or not a else f"{'+' if gain > 0 else ''}{number(100 * gain / a, 1)} %"
        left, right = estimate(dig(rollout, first, key), digits), estimate(dig(rollout, second, key), digits)
        row = [Cell(heading), left, right, Cell(change.text, change.note, tone), Cell(relative)]
        if published:
            row += [Cell(text, tone="muted") for text in published.get(key, (DASH,) * 3)]
        rows.append(row)
    head = ["Metric", model(first), model(second), "Change, paired", "Relative"]
    note = "Mean and 95 % interval over episodes. Coloured: the interval of the change excludes 0."
    if published:
        head += ["Paper:\nAR", "Paper:\nSWR", "Paper:\nchange"]
        note += (
            " Grey: the paper's published values, on other data, models and (for its perceptual distance) published "
            "LPIPS; compare directions, not sizes."
        )
    return Table(caption, head, rows, note)


def _tone(key: str, paired: Json) -> Tone:
    """`difference_tone` of a metric's paired difference, reversed if lower is better."""
    tone = difference_tone(paired)
    if tone and key not in HIGHER_IS_BETTER:
        return "bad" if tone == "good" else "good"
    return tone


def minus_autoregression(rollout: Json, metrics: Sequence[tuple[str, str, int]], caption: str) -> Table:
    """Each decoding minus plain autoregression of the same model with the same sampling, one row each.

    Args:
        rollout: metrics/rollout.json.
        metrics: (key, heading, decimals) of the columns.
        caption: The caption.
    """
    entries = {name: dig(value, "less_ar") for name, value in (rollout or {}).items() if dig(value, "less_ar")}
    columns = [item for item in metrics if any(dig(entry, item[0]) for entry in entries.values())]
    rows: list[list[Cell]] = []
    for name in sorted(entries, key=order):
        bound = is_bound(name)
        cells = [Cell(model(name), tone="muted" if bound else "")]
        for key, _, digits in columns:
            value = dig(entries[name], key)
            cells.append(estimate(value, digits, "" if bound else _tone(key, value), sign=True))
        rows.append(cells)
    note = "Paired by episode. Coloured: the 95 % interval excludes 0."
    return Table(caption, ["Model and decoding", *(heading for _, heading, _ in columns)], rows, note)


def flat(caption: str, metrics: Json, leaving_out: Sequence[str] = ()) -> Table:
    """All numbers of a metrics file, one row each, with their intervals; without the keys `leaving_out`."""
    rows: list[list[Cell]] = []

    def walk(value: Json, path: tuple[str, ...]) -> None:
        if not path or path[0] not in leaving_out:
            interval = bounds(value)
            if interval is not None and mean_of(value) is not None:
                rows.append([Cell(_path(path)), Cell(significant(float(value["mean"])), interval_note(value))])
            elif isinstance(value, Mapping):
                for key, item in value.items():
                    walk(item, (*path, str(key)))
            elif isinstance(value, int | float | str):
                rows.append([Cell(_path(path)), Cell(significant(value))])

    walk(metrics or {}, ())
    return Table(caption, ["Metric", "Value"], rows)


def _path(path: Sequence[str]) -> str:
    """A path of keys as a heading: `Error · object cm`."""
    return " · ".join(title(part) if not index else part.replace("_", " ") for index, part in enumerate(path))


def interval_note(value: Mapping[str, Json]) -> str:
    """The bounds of an interval and its sample size."""
    count = f" · n = {significant(value['n'])}" if "n" in value else ""
    return f"{significant(float(value['low']))} to {significant(float(value['high']))}{count}"


def with_bounds(entry: Mapping[str, Json], name: str) -> Json:
    """The metric `name` of `entry`, as an interval if `entry` has `<name>_low` and `<name>_high`."""
    if f"{name}_low" in entry and f"{name}_high" in entry and not isinstance(entry.get(name), Mapping):
        return {"mean": entry[name], "low": entry[f"{name}_low"], "high": entry[f"{name}_high"]}
    return entry.get(name)


def before_after(caption: str, metrics: Mapping[str, Json]) -> Table:
    """One row for each metric: before, after, and the paired change with its interval if it has one."""
    rows: list[list[Cell]] = []
    for name, value in metrics.items():
        before, after = mean_of(dig(value, "before")), mean_of(dig(value, "after"))
        if before is None or after is None:
            continue
        gain = float(value["mean"]) if "mean" in value else after - before
        sign = "+" if gain > 0 else ""
        row = [Cell(title(name)), Cell(significant(before)), Cell(significant(after))]
        rows.append([*row, Cell(sign + significant(gain), interval_note(value) if bounds(value) else "")])
    return Table(caption, ["", "Before", "After", "Change, paired"], rows)


def grid(caption: str, metrics: Mapping[str, Json], heading: str) -> Table:
    """One row for each key of `metrics`, one column for each of their metrics; nested counts are lines of one cell."""
    names = [name for name, value in metrics.items() if isinstance(value, Mapping)]
    columns = list(dict.fromkeys(key for name in names for key, v in metrics[name].items() if not isinstance(v, list)))
    rows = [[Cell(name), *(_plain(metrics[name].get(column)) for column in columns)] for name in names]
    return Table(caption, [heading, *(title(column) for column in columns)], rows)


def transpose(table: Table) -> Table:
    """A copy of a table with rows and columns exchanged."""
    first, *names = table.head
    columns = [row[0].text for row in table.rows]
    rows = [[Cell(name), *(row[number] for row in table.rows)] for number, name in enumerate(names, 1)]
    return Table(table.caption, ["Metric" if first else "", *columns], rows, table.note)


def _plain(value: Json) -> Cell:
    """The cell of a number, an interval, a mapping of counts, or None."""
    if value is None:
        return EMPTY
    if isinstance(value, Mapping):
        if mean_of(value) is not None:
            return Cell(significant(float(value["mean"])), interval_note(value) if bounds(value) else "")
        return Cell("", "\n".join(f"{words(str(key))} {significant(item)}" for key, item in value.items()))
    return Cell(significant(value))


def by_number(caption: str, metrics: Mapping[str, Json], names: Sequence[str], heading: str) -> Table:
    """One row for each number (a window, an age), one column for each of `names` that maps numbers to values.

    Args:
        caption: The caption.
        metrics: Metrics by name.
        names: The columns; absent ones are left out.
        heading: Heading of the numbers.
    """
    columns = [name for name in names if isinstance(metrics.get(name), Mapping)]
    numbers = sorted({int(key) for name in columns for key in metrics[name]})
    rows = [[Cell(str(n)), *(estimate(dig(metrics, name, str(n)), 4) for name in columns)] for n in numbers]
    return Table(caption, [heading, *(title(name) for name in columns)], rows)
