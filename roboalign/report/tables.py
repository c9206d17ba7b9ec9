"""Tables of the page, from metrics files. A figure that is absent gives an empty cell, never a zero."""

from collections.abc import Mapping, Sequence

from roboalign.report.blocks import Cell, Table, Tone
from roboalign.report.names import (
    DASH,
    FAITHFUL,
    FIRST,
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

FEWEST = 6
"""Below this many episodes no difference is coloured: the signed-rank test could not reach p = .05 either."""

HIGHER_IS_BETTER = ("psnr", "ssim")

EMPTY = Cell(DASH, tone="muted")


def estimate(value: Json, digits: int = 2, tone: Tone = "", sign: bool = False) -> Cell:
    """A mean with its interval below; `sign` puts a plus before gains."""
    mean, interval = mean_of(value), bounds(value)
    if mean is None:
        return EMPTY
    text = number(mean, digits)
    if sign and mean > 0 and float(f"{mean:.{digits}f}"):
        text = "+" + text
    note = "" if interval is None else f"{number(interval[0], digits)} to {number(interval[1], digits)}"
    return Cell(text, note, tone)


def difference_tone(value: Json) -> Tone:
    """Good or bad where an interval leaves out 0, and enough episodes stand behind it."""
    interval = bounds(value)
    if interval is None or interval[0] <= 0 <= interval[1] or dig(value, "n") in range(FEWEST):
        return ""
    return "good" if interval[0] > 0 else "bad"


def gates(evaluation: Json) -> Table:
    """All gates: passed, failed, not measured."""
    rows: list[list[Cell]] = []
    measured: Mapping[str, Json] = dig(evaluation, "gates") or {}
    for name, gate in sorted(measured.items(), key=lambda item: (not item[1]["passed"], item[0])):
        verdict = Cell("passed", tone="good") if gate["passed"] else Cell("failed", tone="bad")
        rows.append([Cell(title(name)), verdict, Cell(_sentence(gate["rule"]), _figures(gate["figures"]))])
    missing: Mapping[str, str] = dig(evaluation, "gates_not_measured") or {}
    for name, reason in sorted(missing.items()):
        rows.append([Cell(title(name)), Cell("not measured yet", tone="muted"), Cell(_sentence(words(reason)))])
    passed = sum(bool(gate["passed"]) for gate in measured.values())
    caption = f"{passed} passed, {len(measured) - passed} failed, {len(missing)} not measured"
    return Table(caption, ["Gate", "Verdict", "Rule and figures"], rows)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figures(figures: Mapping[str, Json]) -> str:
    """The figures of a gate in one line: `mean`, `low`, `high` and `n` that belong together as one interval, anything
    else by its name."""
    grouped: dict[str, dict[str, Json]] = {}
    for key, value in figures.items():
        base, part = _split(key)
        grouped.setdefault(base, {})[part] = value
    parts = []
    for base, values in grouped.items():
        if {"mean", "low", "high"} <= set(values):
            text = f"{significant(values['mean'])} ({_note(values)})"
            parts.append(f"{_figure_name(base).rstrip(':')}: {text}" if base else text)
        else:
            parts += [f"{_figure_name(f'{base} {part}'.strip())} {significant(v)}" for part, v in values.items()]
    return " · ".join(parts)


def _split(key: str) -> tuple[str, str]:
    """A figure's name and which part of an interval it is, or "": `best of 16 low 8 frames` is the `low` of
    `best of 16, 8 frames`."""
    words_of = key.split(" ")
    for part in ("mean", "low", "high", "n"):
        if part in words_of:
            place = words_of.index(part)
            return ", ".join(filter(None, (" ".join(words_of[:place]), " ".join(words_of[place + 1 :])))), part
    return key, ""


def _figure_name(key: str) -> str:
    """A clip set by its name in the tables, anything else in words."""
    first, *rest = key.split(" ")
    if "." in first or first in FIRST:
        return " ".join([model(first), *map(words, rest)]) + ":"
    return words(key.replace(" ", "_"))


SCORES_NOTE = "Bold: the highest mean of a column. Grey: saw true later frames, a bound that no model competes with."


def scores(evaluation: Json, scorer: str, dimensions: Sequence[Mapping[str, Json]], *, folded: bool = False) -> Table:
    """Scores by dimension and model, by one scorer; the best model that is not a ceiling stands in bold."""
    models: Mapping[str, Json] = dig(evaluation, "models") or {}
    names = sorted((name for name in models if scorer in models[name]), key=order)
    columns = [*(str(dimension["name"]) for dimension in dimensions), "total"]
    maxima = [float(dimension["max_score"]) for dimension in dimensions]
    head = ["Model"]
    for column, maximum in zip(columns, [*maxima, sum(maxima)], strict=True):
        head.append(f"{title(column)}\n0{DASH}{significant(float(maximum))}")
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
    """`n = 24 episodes`, or the smallest and the largest count."""
    known = sorted(counts - {0})
    if not known:
        return "n unknown"
    return f"n = {known[0]} episodes" if len(known) == 1 else f"n = {known[0]} to {known[-1]} episodes"


def differences(
    evaluation: Json,
    dimensions: Sequence[Mapping[str, Json]],
    scorers: Sequence[str],
    kind: str,
    folded: bool = False,
) -> Table:
    """Paired differences, one row a comparison and scorer. `kind` says what the scores of the listed scorers are:
    faithful or absolute."""
    columns = [*(str(dimension["name"]) for dimension in dimensions), "total"]
    strongest = dig(evaluation, "strongest_baseline")
    rows: list[list[Cell]] = []
    for name, others in sorted((dig(evaluation, "differences") or {}).items(), key=lambda item: order(item[0])):
        for against, by_scorer in sorted(others.items(), key=lambda item: order(item[0])):
            suffix = " (the strongest baseline)" if against == strongest else ""
            for scorer in (each for each in scorers if each in by_scorer):
                values = by_scorer[scorer]
                row = [
                    Cell(model(name), f"less {model(against)}{suffix}"),
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
        "leaves out 0.",
        folded,
    )


def p_value(p: float) -> str:
    """`p < .001`, `p = .03`."""
    return "p < .001" if p < 0.001 else f"p = {p:.2g}".replace("0.", ".")


def decodings(rollout: Json, metrics: Sequence[tuple[str, str, int]], caption: str, note: str = "") -> Table:
    """One row a model and decoding that has any of the `metrics` (key, heading, decimals), of which those that no row
    has are left out."""
    entries = {
        name: value
        for name, value in sorted((rollout or {}).items())
        if any(mean_of(dig(value, key)) is not None for key, _, _ in metrics)
    }
    shown = [item for item in metrics if any(mean_of(dig(value, item[0])) is not None for value in entries.values())]
    rows = [
        [
            Cell(model(name), tone="muted" if is_bound(name) else ""),
            *(estimate(dig(entries[name], key), digits) for key, _, digits in shown),
        ]
        for name in sorted(entries, key=order)
    ]
    return Table(caption, ["Model and decoding", *(heading for _, heading, _ in shown)], rows, note)


def against(rollout: Json, first: str, second: str, metrics: Sequence[tuple[str, str, int]], caption: str) -> Table:
    """The paper's form of the SWR table: metric, plain autoregression, SWR, change.

    The change has the interval of the paired difference where the rollout stage measured it, and is coloured where
    that leaves out 0; distances are better lower.
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
        share = "" if key == "psnr" or not a else f"{'+' if gain > 0 else ''}{number(100 * gain / a, 1)} %"
        left, right = estimate(dig(rollout, first, key), digits), estimate(dig(rollout, second, key), digits)
        rows.append([Cell(heading), left, right, Cell(change.text, change.note, tone), Cell(share)])
    return Table(
        caption,
        ["Metric", model(first), model(second), "Change, paired", "Relative"],
        rows,
        "Mean and 95 % interval over episodes. Coloured: the interval of the change leaves out 0.",
    )


def _tone(key: str, paired: Json) -> Tone:
    """Good or bad where the interval of a metric's paired difference leaves out 0; distances are better lower."""
    tone = difference_tone(paired)
    if tone and key not in HIGHER_IS_BETTER:
        return "bad" if tone == "good" else "good"
    return tone


def less_autoregression(rollout: Json, metrics: Sequence[tuple[str, str, int]], caption: str) -> Table:
    """Each decoding less plain autoregression of the same model, sampled alike: which one wins."""
    entries = {name: dig(value, "less_ar") for name, value in (rollout or {}).items() if dig(value, "less_ar")}
    shown = [item for item in metrics if any(dig(entry, item[0]) for entry in entries.values())]
    rows: list[list[Cell]] = []
    for name in sorted(entries, key=order):
        beyond = is_bound(name)
        cells = [Cell(model(name), tone="muted" if beyond else "")]
        for key, _, digits in shown:
            value = dig(entries[name], key)
            cells.append(estimate(value, digits, "" if beyond else _tone(key, value), sign=True))
        rows.append(cells)
    note = "Paired by episode. Coloured: the 95 % interval leaves out 0."
    return Table(caption, ["Model and decoding", *(heading for _, heading, _ in shown)], rows, note)


def flat(caption: str, metrics: Json, leaving_out: Sequence[str] = ()) -> Table:
    """Every number of a metrics file with few levels: one row each, with its interval where it has one."""
    rows: list[list[Cell]] = []

    def walk(value: Json, path: tuple[str, ...]) -> None:
        if not path or path[0] not in leaving_out:
            interval = bounds(value)
            if interval is not None and mean_of(value) is not None:
                rows.append([Cell(_path(path)), Cell(significant(float(value["mean"])), _note(value))])
            elif isinstance(value, Mapping):
                for key, item in value.items():
                    walk(item, (*path, str(key)))
            elif isinstance(value, int | float | str):
                rows.append([Cell(_path(path)), Cell(significant(value))])

    walk(metrics or {}, ())
    return Table(caption, ["Figure", "Value"], rows)


def _path(path: Sequence[str]) -> str:
    return " · ".join(title(part) if not index else part.replace("_", " ") for index, part in enumerate(path))


def _note(value: Mapping[str, Json]) -> str:
    count = f" · n = {significant(value['n'])}" if "n" in value else ""
    return f"{significant(float(value['low']))} to {significant(float(value['high']))}{count}"


def with_bounds(entry: Mapping[str, Json], name: str) -> Json:
    """The figure `name` with the bounds in `<name>_low` and `<name>_high` if they are there."""
    if f"{name}_low" in entry and f"{name}_high" in entry and not isinstance(entry.get(name), Mapping):
        return {"mean": entry[name], "low": entry[f"{name}_low"], "high": entry[f"{name}_high"]}
    return entry.get(name)


def before_after(caption: str, metrics: Mapping[str, Json]) -> Table:
    """One row a figure: before, after, and the paired change with its interval where there is one."""
    rows: list[list[Cell]] = []
    for name, value in metrics.items():
        before, after = mean_of(dig(value, "before")), mean_of(dig(value, "after"))
        if before is None or after is None:
            continue
        gain = float(value["mean"]) if "mean" in value else after - before
        sign = "+" if gain > 0 else ""
        row = [Cell(title(name)), Cell(significant(before)), Cell(significant(after))]
        rows.append([*row, Cell(sign + significant(gain), _note(value) if bounds(value) else "")])
    return Table(caption, ["", "Before", "After", "Change, paired"], rows)


def grid(caption: str, metrics: Mapping[str, Json], heading: str) -> Table:
    """One row a key of `metrics`, one column a figure of theirs; nested counts go line by line into one cell."""
    names = [name for name, value in metrics.items() if isinstance(value, Mapping)]
    columns = list(dict.fromkeys(key for name in names for key, v in metrics[name].items() if not isinstance(v, list)))
    rows = [[Cell(name), *(_plain(metrics[name].get(column)) for column in columns)] for name in names]
    return Table(caption, [heading, *(title(column) for column in columns)], rows)


def transpose(table: Table) -> Table:
    """The table with rows and columns exchanged."""
    first, *names = table.head
    columns = [row[0].text for row in table.rows]
    rows = [[Cell(name), *(row[number] for row in table.rows)] for number, name in enumerate(names, 1)]
    return Table(table.caption, ["Figure" if first else "", *columns], rows, table.note)


def _plain(value: Json) -> Cell:
    if value is None:
        return EMPTY
    if isinstance(value, Mapping):
        if mean_of(value) is not None:
            return Cell(significant(float(value["mean"])), _note(value) if bounds(value) else "")
        return Cell("", "\n".join(f"{words(str(key))} {significant(item)}" for key, item in value.items()))
    return Cell(significant(value))


def by_number(caption: str, metrics: Mapping[str, Json], names: Sequence[str], heading: str) -> Table:
    """One row a number (a window, an age), one column for each of `names` that is a mapping from numbers."""
    shown = [name for name in names if isinstance(metrics.get(name), Mapping)]
    numbers = sorted({int(key) for name in shown for key in metrics[name]})
    rows = [[Cell(str(n)), *(estimate(dig(metrics, name, str(n)), 4) for name in shown)] for n in numbers]
    return Table(caption, [heading, *(title(name) for name in shown)], rows)
