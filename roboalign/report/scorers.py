"""The section on scores: every clip set by scorers that were trained apart, and what it shows against the truth."""

from collections.abc import Iterator, Mapping, Sequence

from roboalign.report import tables
from roboalign.report.blocks import Block, Cell, Chart, Prose, Section, Table
from roboalign.report.inputs import Inputs, dimensions
from roboalign.report.names import (
    DASH,
    FAITHFUL,
    SCORERS,
    bounds,
    dig,
    is_bound,
    join_words,
    mean_of,
    model,
    order,
    scorer,
    scorer_order,
    significant,
    words,
)
from roboalign.report.plots import Bar, intervals
from roboalign.report.tables import FEWEST, difference_tone, estimate
from roboalign.types import Json

TRAINED, INDEPENDENT = ("student", "judge"), ("held_out", "gold")
"""Scorers whose scores alignment is trained on, directly or through distillation; and those that it is not."""

HIGHER_IS_BETTER = {"false_success": False, "missed_success": False, "position_error_cm": False, "psnr": True}
"""The outcomes, in the order of their columns."""

DIGITS = {"psnr": 2, "position_error_cm": 2, "false_success": 3, "missed_success": 3}


def scores(inputs: Inputs) -> Section:
    """Faithful totals first, absolute ones beside them; then outcomes, dimensions and paired differences."""
    heading = "Independent scorers"
    evaluation, dims = inputs.metrics.get("evaluation"), dimensions(inputs)
    models: Mapping[str, Json] = dig(evaluation, "models") or {}
    if not models or not dims:
        return Section("scores", heading, [])
    names = sorted({name for by_scorer in models.values() for name in by_scorer}, key=scorer_order)
    faithful = [name for name in names if name.endswith(FAITHFUL)]
    blocks: list[Block] = [Prose(scorers_text(inputs, names), listed=True), Prose(TEXT)]
    table = gains(evaluation, str(dig(inputs.spec, "rl", "reward", "kind")))
    blocks += [table] if table.rows else []
    blocks += [_chart(models, faithful or names, dims), totals(evaluation, names, dims)]
    for table in (outcomes(evaluation), outcome_differences(evaluation), agreement(evaluation)):
        blocks += [table] if table.rows else []
    absolute = [name for name in names if name not in faithful]
    listed = tables.differences(evaluation, dims, faithful or absolute, "faithful" if faithful else "absolute")
    blocks += [listed] if listed.rows else []
    independent = [name for name in faithful if name.removesuffix(FAITHFUL) in INDEPENDENT]
    unfolded = independent or faithful or absolute
    ordered = [*unfolded, *(name for name in [*faithful, *absolute] if name not in unfolded)]
    blocks += [tables.scores(evaluation, name, dims, folded=name not in unfolded) for name in ordered]
    if faithful:
        listed = tables.differences(evaluation, dims, absolute, "absolute", folded=True)
        blocks += [listed] if listed.rows else []
    return Section("scores", heading, blocks)


TEXT = (
    "Absolute scores are the paper's: they rate what a clip shows, so a success that the model invents raises them. "
    "Faithful scores compare what a clip shows with what the same actions truly led to, in every dimension: an "
    "invented success and a missed one both lower them. Read the faithful totals; the absolute ones stand beside them "
    "for comparison with the paper.",
    "A gain that only the student and the judge see is reward hacking: the policy found what their training gets "
    "wrong. A gain counts if the held-out judge and gold see it too. The row of the ground truth shows how far each "
    "scorer is from the maximum on true clips.",
)


def scorers_text(inputs: Inputs, names: Sequence[str]) -> list[str]:
    """One item a scorer that was used: what it is and which part it had in training."""
    used = [name for name in SCORERS if name in names or name + FAITHFUL in names]
    maximised = dig(inputs.spec, "rl", "reward", "kind") or "distilled"
    online = dig(inputs.spec, "rl", "distillation") is not None
    guard = dig(inputs.spec, "rl", "guard", "scorer")
    checks = " On validation prompts it also decides which checkpoint of alignment is kept."
    sees = " Alignment maximises its score."
    items = {
        "student": "Student: a small network distilled from the judge."
        + (sees if maximised == "distilled" else " In this experiment alignment does not maximise its score."),
        "judge": "Judge: trained on the bench's labels; it perceives through the judge's state probe. The student is "
        + ("distilled from it, before and during alignment." if online else "distilled from it before alignment.")
        + (sees if maximised == "judge" else "")
        + (checks if guard == "judge" else ""),
        "held_out": "Held-out judge: of another seed and size, with a state probe and labels of its own. Alignment "
        "does not train on its scores." + (checks if guard == "held_out" else ""),
        "gold": "Gold: the rubric, applied to the states that gold's state probe reads from the clip and from the true "
        "outcome of the same actions."
        + (sees if maximised == "gold" else " No trained model and no choice depends on it.")
        + " The probe errs, see State probes.",
    }
    found = [items[name] for name in used if name in items]
    absent = [SCORERS[name].lower() for name in INDEPENDENT if name not in used]
    if absent:
        found.append(f"Not among the scorers: {join_words(absent)}.")
    return found


def gains(evaluation: Json, maximised: str) -> Table:
    """The paired difference of faithful totals by each scorer, and what follows, for every comparison of an aligned
    model."""
    rows = []
    columns = [name for name in SCORERS if name in (*TRAINED, *INDEPENDENT)]
    for name, against, by_scorer in _comparisons(evaluation):
        if not name.startswith("aligned"):
            continue
        values = {each: dig(by_scorer, each + FAITHFUL, "total") for each in columns}
        if not any(values.values()):
            continue
        cells = [estimate(value, 3, difference_tone(value), sign=True) for value in values.values()]
        rows.append([_comparison(evaluation, name, against, by_scorer), *cells, verdict(values, maximised)])
    return Table(
        "Faithful total, aligned model less a baseline: which scorers see a gain",
        ["Comparison", *(SCORERS[name] for name in columns), "Reading"],
        rows,
        f"Paired by episode and seed: mean and 95 % interval in points. A scorer sees a gain if its interval lies "
        f"above 0 over at least {FEWEST} episodes (coloured); an interval that contains 0 does not confirm a gain.",
    )


def verdict(values: Mapping[str, Json], maximised: str = "distilled") -> Cell:
    """What the differences of faithful totals by scorer say of a gain. If alignment maximised gold's score, `gold`
    confirms nothing."""
    seen = {name: difference_tone(value) for name, value in values.items() if value is not None}
    outside = [name for name in INDEPENDENT if name != maximised]
    trained = [name for name in seen if name not in outside and seen[name] == "good"]
    independent = [name for name in outside if name in seen]
    confirming = [name for name in independent if seen[name] == "good"]
    losing = [name for name in independent if seen[name] == "bad"]
    if losing:
        return Cell(f"Loss by {_name_scorers(losing)}" + (": reward hacking" if trained else ""), tone="bad")
    if not trained and not confirming:
        return Cell("No gain", tone="muted")
    if not independent:
        return Cell("Not confirmed: no independent scorer")
    if len(confirming) == len(outside):
        return Cell(f"Gain, confirmed by {_name_scorers(confirming)}", tone="good")
    if confirming:
        return Cell(f"Gain, confirmed by {_name_scorers(confirming)} alone")
    return Cell(f"Seen by {_name_scorers(trained)} alone: reward hacking", tone="bad")


def _name_scorers(names: Sequence[str]) -> str:
    return join_words([SCORERS[name].lower() for name in names])


def _comparisons(evaluation: Json) -> Iterator[tuple[str, str, Mapping[str, Json]]]:
    """(model, against, differences by scorer) in the order of tables."""
    for name, others in sorted((dig(evaluation, "differences") or {}).items(), key=lambda item: order(item[0])):
        for against, by_scorer in sorted(others.items(), key=lambda item: order(item[0])):
            yield name, against, by_scorer


def _comparison(evaluation: Json, name: str, against: str, by_scorer: Mapping[str, Json]) -> Cell:
    strongest = " (the strongest baseline)" if against == dig(evaluation, "strongest_baseline") else ""
    return Cell(model(name), f"less {model(against)}{strongest}")


def _chart(models: Mapping[str, Json], names: Sequence[str], dims: Sequence[Mapping[str, Json]]) -> Chart:
    bars = []
    for name in names:
        for row in sorted(models, key=order):
            value = dig(models, row, name, "total")
            mean, interval = mean_of(value), bounds(value)
            if mean is not None and interval is not None:
                bars.append(Bar(model(row), SCORERS.get(name.removesuffix(FAITHFUL), name), mean, *interval))
    kind = "Faithful total" if names[0].endswith(FAITHFUL) else "Total"
    scale = f"{kind.lower()} (0{DASH}{significant(_full(dims))})"
    return Chart(
        f"{kind} by scorer: mean and 95 % interval over episodes",
        intervals(bars, "scores", f"{kind} by model and scorer", scale, None),
    )


def _full(dims: Sequence[Mapping[str, Json]]) -> float:
    return sum(float(dimension["max_score"]) for dimension in dims)


def totals(evaluation: Json, names: Sequence[str], dims: Sequence[Mapping[str, Json]]) -> Table:
    """One row a clip set, one column a scorer: faithful totals, then absolute ones. The highest of a column that is not
    a bound stands in bold."""
    models: Mapping[str, Json] = dig(evaluation, "models") or {}
    columns = [name for name in names if name.endswith(FAITHFUL)] + [n for n in names if not n.endswith(FAITHFUL)]
    rows_of = sorted(models, key=order)
    best = {
        column: max(
            (
                mean
                for row in rows_of
                if not is_bound(row)
                if (mean := mean_of(dig(models, row, column, "total"))) is not None
            ),
            default=None,
        )
        for column in columns
    }
    rows, counts = [], set[int]()
    for name in rows_of:
        row = [Cell(model(name), tone="muted" if is_bound(name) else "")]
        for column in columns:
            value = dig(models, name, column, "total")
            counts.add(int(dig(value, "n") or 0))
            strong = not is_bound(name) and best[column] is not None and mean_of(value) == best[column]
            row.append(estimate(value, tone="strong" if strong else ""))
        rows.append(row)
    kinds = {name: "faithful" if name.endswith(FAITHFUL) else "absolute" for name in columns}
    return Table(
        f"Total score (0{DASH}{significant(_full(dims))}) by scorer, {tables.count_text(counts)}; mean and 95 % "
        "interval",
        ["Model", *(f"{scorer(name.removesuffix(FAITHFUL))}\n{kinds[name]}" for name in columns)],
        rows,
        tables.SCORES_NOTE,
    )


def outcomes(evaluation: Json) -> Table:
    """What the clip sets show against the true outcome of their actions: one row a clip set."""
    entries: Mapping[str, Json] = dig(evaluation, "outcomes") or {}
    shown = [name for name in HIGHER_IS_BETTER if any(dig(entry, name) for entry in entries.values())]
    rows = []
    for name in sorted(entries, key=order):
        cells = []
        for column in shown:
            value = dig(entries[name], column)
            cell = estimate(value, DIGITS[column])
            count = dig(value, "n")
            cells.append(Cell(cell.text, cell.note + (f" · n = {count}" if count is not None else ""), cell.tone))
        rows.append([Cell(model(name), tone="muted" if is_bound(name) else ""), *cells])
    return Table(
        "Outcomes: what clips show against the true outcome of the same actions",
        ["Model", *(HEADINGS[name] for name in shown)],
        rows,
        "As gold's state probe reads both. False success: share of the episodes whose true outcome fails in which the "
        "last frame shows success. Missed success: the reverse, of the episodes that truly succeed. Position error: "
        "mean distance of gripper and object from where the true outcome has them. 95 % intervals: Wilson's for rates, "
        "bootstrap over n episodes for the others. Grey: saw true later frames.",
    )


HEADINGS = {
    "psnr": "PSNR (dB)",
    "position_error_cm": "Position error (cm)\nlower is better",
    "false_success": "False success\nlower is better",
    "missed_success": "Missed success\nlower is better",
}


def outcome_differences(evaluation: Json) -> Table:
    """Paired differences of the outcomes: one row a comparison."""
    columns = list(HIGHER_IS_BETTER)
    rows = []
    for name, against, by_scorer in _comparisons(evaluation):
        values = {column: dig(by_scorer, "outcomes", column) for column in columns}
        if not any(values.values()):
            continue
        cells = []
        for column, value in values.items():
            tone = difference_tone(value)
            if tone and not HIGHER_IS_BETTER[column]:
                tone = "bad" if tone == "good" else "good"
            cell, count = estimate(value, DIGITS[column], tone, sign=True), dig(value, "n")
            cells.append(Cell(cell.text, cell.note + (f" · n = {count}" if count is not None else ""), cell.tone))
        rows.append([_comparison(evaluation, name, against, by_scorer), *cells])
    return Table(
        "Outcomes, paired differences",
        ["Comparison", *(HEADINGS[name] for name in columns)],
        rows,
        "Mean and 95 % bootstrap interval over the n episodes that both clip sets have. Coloured: the interval leaves "
        "out 0; green is better.",
    )


def agreement(evaluation: Json) -> Table:
    """How the learned scorers' totals agree with gold's over all clips, between prompts."""
    rows = []
    for name, by_gold in sorted((dig(evaluation, "agreement") or {}).items(), key=lambda item: scorer_order(item[0])):
        for value in by_gold.values():
            interval = {"mean": value["spearman"], "low": value["low"], "high": value["high"]}
            clips = significant(value["clips"])
            row = [Cell(scorer(name)), estimate(interval), estimate(dig(value, "pair_accuracy"), 3), Cell(clips)]
            rows.append(row)
    return Table(
        "Agreement with gold over generated clips, between prompts",
        ["Scorer", "Spearman", "Pair accuracy within an episode", "Clips"],
        rows,
        "Easier than ranking the rollouts of one prompt, and not what alignment sees: see Reward inside groups. "
        "Faithful scores against faithful gold, absolute ones against absolute gold; 95 % interval over episodes.",
    )


def scorer_words(name: str) -> str:
    """The faithful total of a scorer in a sentence: `faithful total by the held-out judge`."""
    base = name.removesuffix(FAITHFUL)
    kind = "faithful total" if name.endswith(FAITHFUL) else "total"
    text = SCORERS.get(base, words(base)).lower()
    return f"{kind} by {'' if base == 'gold' else 'the '}{text}"
