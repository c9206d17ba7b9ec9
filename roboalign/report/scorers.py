"""The section on scores: all clip sets by all scorers, their outcomes, and agreement with gold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from roboalign.report import tables
from roboalign.report.benchmarks import benchmark_tables
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
from roboalign.report.score_charts import score_charts
from roboalign.report.tables import MIN_EPISODES, difference_tone, estimate
from roboalign.types import Json

TRAINED, INDEPENDENT = ("student", "judge"), ("held_out", "gold")
"""Scorers that alignment is trained on, directly or through distillation, and scorers that it is not trained on."""

HIGHER_IS_BETTER = {"false_success": False, "missed_success": False, "position_error_cm": False, "psnr": True}
"""Whether higher is better for each outcome, in the order of columns."""

DIGITS = {"psnr": 2, "position_error_cm": 2, "false_success": 3, "missed_success": 3}


def scores(inputs: Inputs) -> Section:
    """Faithful and absolute totals, then outcomes, agreement with gold, paired differences and dimensions."""
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
    blocks += [_chart(models, faithful or names, dims), *score_charts(inputs, faithful or names, dims)]
    blocks.append(replace(totals(evaluation, names, dims), folded=True))
    for table in (outcomes(evaluation), outcome_differences(evaluation), agreement(evaluation)):
        blocks += [replace(table, folded=True)] if table.rows else []
    blocks += benchmark_tables(evaluation)
    absolute = [name for name in names if name not in faithful]
    kind = "faithful" if faithful else "absolute"
    listed = tables.differences(evaluation, dims, faithful or absolute, kind, folded=True)
    blocks += [listed] if listed.rows else []
    independent = [name for name in faithful if name.removesuffix(FAITHFUL) in INDEPENDENT]
    first = independent or faithful or absolute
    ordered = [*first, *(name for name in [*faithful, *absolute] if name not in first)]
    blocks += [tables.scores(evaluation, name, dims, folded=True) for name in ordered]
    if faithful:
        listed = tables.differences(evaluation, dims, absolute, "absolute", folded=True)
        blocks += [listed] if listed.rows else []
    return Section("scores", heading, blocks)


TEXT = (
    "Absolute scores are the paper's: they rate what a clip shows, so a hallucinated success raises them. Faithful "
    "scores compare what a clip shows with the true outcome of the same actions in each dimension, so a hallucinated "
    "and a missed success both lower them. The faithful totals are the main result; absolute totals are for comparison "
    "with the paper.",
    "A gain by the student and the judge only is reward hacking: the policy exploits errors of their training. A gain "
    "is real if the held-out judge and gold confirm it. The ground truth's row shows how far each scorer is below the "
    "maximum on true clips.",
)


def scorers_text(inputs: Inputs, names: Sequence[str]) -> list[str]:
    """One item for each scorer that was used: what it is, and its role in training."""
    used = [name for name in SCORERS if name in names or name + FAITHFUL in names]
    maximised = dig(inputs.spec, "rl", "reward", "kind") or "distilled"
    online = dig(inputs.spec, "rl", "distillation") is not None
    guard = dig(inputs.spec, "rl", "guard", "scorer")
    selects = " On validation prompts it also decides which checkpoint of alignment is kept."
    is_reward = " Alignment maximises its score."
    items = {
        "student": "Student: a small network distilled from the judge."
        + (is_reward if maximised == "distilled" else " In this experiment, alignment does not maximise its score."),
        "judge": "Judge: trained on the bench's labels, with the judge's state probe. The student is "
        + ("distilled from it before and during alignment." if online else "distilled from it before alignment.")
        + (is_reward if maximised == "judge" else "")
        + (selects if guard == "judge" else ""),
        "held_out": "Held-out judge: has another seed and size, its own state probe and its own labels. Alignment is "
        "not trained on its scores." + (selects if guard == "held_out" else ""),
        "gold": "Gold: the rubric, applied to the states that gold's state probe perceives in the clip and in the true "
        "outcome of the same actions."
        + (is_reward if maximised == "gold" else " No trained model and no choice depends on it.")
        + " For the errors of this probe, see State probes.",
    }
    texts = [items[name] for name in used if name in items]
    absent = [SCORERS[name].lower() for name in INDEPENDENT if name not in used]
    if absent:
        texts.append(f"Not used in this run: {join_words(absent)}.")
    return texts


def gains(evaluation: Json, maximised: str) -> Table:
    """Paired differences of faithful totals by each scorer and a verdict, for each comparison of an aligned model."""
    rows = []
    columns = [name for name in SCORERS if name in (*TRAINED, *INDEPENDENT)]
    for name, against, by_scorer in _comparisons(evaluation):
        if not name.startswith("aligned"):
            continue
        values = {each: dig(by_scorer, each + FAITHFUL, "total") for each in columns}
        if not any(values.values()):
            continue
        cells = [estimate(value, 3, difference_tone(value), sign=True) for value in values.values()]
        rows.append([_comparison(evaluation, name, against), *cells, verdict(values, maximised)])
    return Table(
        "Faithful total, aligned model minus a baseline: which scorers confirm a gain",
        ["Comparison", *(SCORERS[name] for name in columns), "Verdict"],
        rows,
        f"Paired by episode and seed: mean and 95 % interval in points. A scorer confirms a gain if its interval is "
        f"above 0 with at least {MIN_EPISODES} episodes (coloured).",
    )


def verdict(values: Mapping[str, Json], maximised: str = "distilled") -> Cell:
    """The verdict on a gain, from the differences of faithful totals by scorer.

    `maximised` is the kind of the reward; if it is `gold`, gold is not an independent scorer.
    """
    tones = {name: difference_tone(value) for name, value in values.items() if value is not None}
    outside = [name for name in INDEPENDENT if name != maximised]
    trained = [name for name in tones if name not in outside and tones[name] == "good"]
    independent = [name for name in outside if name in tones]
    confirming = [name for name in independent if tones[name] == "good"]
    losing = [name for name in independent if tones[name] == "bad"]
    if losing:
        return Cell(f"Loss by {_name_scorers(losing)}" + (": reward hacking" if trained else ""), tone="bad")
    if not trained and not confirming:
        return Cell("No gain", tone="muted")
    if not independent:
        return Cell("Not confirmed: no independent scorer")
    if len(confirming) == len(outside):
        return Cell(f"Gain, confirmed by {_name_scorers(confirming)}", tone="good")
    if confirming:
        return Cell(f"Gain, confirmed only by {_name_scorers(confirming)}")
    return Cell(f"Gain only by {_name_scorers(trained)}: reward hacking", tone="bad")


def _name_scorers(names: Sequence[str]) -> str:
    """The scorers' names in lower case, joined."""
    return join_words([SCORERS[name].lower() for name in names])


def _comparisons(evaluation: Json) -> Iterator[tuple[str, str, Mapping[str, Json]]]:
    """(model, against, differences by scorer) of each comparison, in the order of tables."""
    for name, others in sorted((dig(evaluation, "differences") or {}).items(), key=lambda item: order(item[0])):
        for against, by_scorer in sorted(others.items(), key=lambda item: order(item[0])):
            yield name, against, by_scorer


def _comparison(evaluation: Json, name: str, against: str) -> Cell:
    """The heading of a comparison's row."""
    strongest = " (the strongest baseline)" if against == dig(evaluation, "strongest_baseline") else ""
    return Cell(model(name), f"minus {model(against)}{strongest}")


def _chart(models: Mapping[str, Json], names: Sequence[str], dims: Sequence[Mapping[str, Json]]) -> Chart:
    """The chart of total scores with intervals, by clip set and scorer."""
    bars = []
    for name in names:
        for row in sorted(models, key=order):
            value = dig(models, row, name, "total")
            mean, interval = mean_of(value), bounds(value)
            if mean is not None and interval is not None:
                bars.append(Bar(model(row), SCORERS.get(name.removesuffix(FAITHFUL), name), mean, *interval))
    kind = "Faithful total" if names[0].endswith(FAITHFUL) else "Total"
    scale = f"{kind.lower()} (0{DASH}{significant(_max_total(dims))})"
    svg = intervals(bars, "scores", f"{kind} by model and scorer", scale, None)
    fields = ("evaluation.scorers", "evaluation.draws")
    return Chart(f"{kind} by scorer: mean and 95 % interval over episodes", [svg], wide=True, fields=fields)


def _max_total(dims: Sequence[Mapping[str, Json]]) -> float:
    return sum(float(dimension["max_score"]) for dimension in dims)


def totals(evaluation: Json, names: Sequence[str], dims: Sequence[Mapping[str, Json]]) -> Table:
    """One row for each clip set, one column for each scorer, faithful before absolute totals. The highest mean of each
    column is bold; bounds do not count."""
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
        f"Total score (0{DASH}{significant(_max_total(dims))}) by scorer, {tables.count_text(counts)}; mean and 95 % "
        "interval",
        ["Model", *(f"{scorer(name.removesuffix(FAITHFUL))}\n{kinds[name]}" for name in columns)],
        rows,
        tables.SCORES_NOTE,
    )


def outcomes(evaluation: Json) -> Table:
    """Outcomes of each clip set against the true outcome of its actions, one row each."""
    entries: Mapping[str, Json] = dig(evaluation, "outcomes") or {}
    columns = [name for name in HIGHER_IS_BETTER if any(dig(entry, name) for entry in entries.values())]
    rows = []
    for name in sorted(entries, key=order):
        cells = []
        for column in columns:
            value = dig(entries[name], column)
            cell = estimate(value, DIGITS[column])
            count = dig(value, "n")
            cells.append(Cell(cell.text, cell.note + (f" · n = {count}" if count is not None else ""), cell.tone))
        rows.append([Cell(model(name), tone="muted" if is_bound(name) else ""), *cells])
    return Table(
        "Outcomes: clips compared with the true outcome of the same actions",
        ["Model", *(HEADINGS[name] for name in columns)],
        rows,
        "As perceived by gold's state probe in both. False success: fraction of the episodes with a failed true "
        "outcome whose last frame shows success. Missed success: fraction of the truly successful episodes whose last "
        "frame shows failure. Position error: mean distance of gripper and object from their true positions. 95 % "
        "intervals: Wilson's for rates, bootstrap over n episodes otherwise. Grey: uses true later frames.",
    )


HEADINGS = {
    "psnr": "PSNR (dB)",
    "position_error_cm": "Position error (cm)\nlower is better",
    "false_success": "False success\nlower is better",
    "missed_success": "Missed success\nlower is better",
}


def outcome_differences(evaluation: Json) -> Table:
    """Paired differences of the outcomes, one row for each comparison."""
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
        rows.append([_comparison(evaluation, name, against), *cells])
    return Table(
        "Outcomes, paired differences",
        ["Comparison", *(HEADINGS[name] for name in columns)],
        rows,
        "Mean and 95 % bootstrap interval over the n episodes that both clip sets have. Coloured: the interval "
        "excludes 0; green is better.",
    )


def agreement(evaluation: Json) -> Table:
    """Agreement of the learned scorers' totals with gold over all clips."""
    rows = []
    for name, by_gold in sorted((dig(evaluation, "agreement") or {}).items(), key=lambda item: scorer_order(item[0])):
        for value in by_gold.values():
            interval = {"mean": value["spearman"], "low": value["low"], "high": value["high"]}
            clips = significant(value["clips"])
            row = [Cell(scorer(name)), estimate(interval), estimate(dig(value, "pair_accuracy"), 3), Cell(clips)]
            rows.append(row)
    return Table(
        "Agreement with gold over all generated clips",
        ["Scorer", "Spearman", "Pair accuracy within an episode", "Clips"],
        rows,
        "This is easier than ranking the rollouts of one prompt, which alignment needs; see Reward within groups. "
        "Faithful scores are compared with faithful gold, absolute scores with absolute gold; 95 % interval over "
        "episodes.",
    )


def scorer_words(name: str) -> str:
    """A scorer's total as words for a sentence: `faithful total by the held-out judge`."""
    base = name.removesuffix(FAITHFUL)
    kind = "faithful total" if name.endswith(FAITHFUL) else "total"
    text = SCORERS.get(base, words(base)).lower()
    return f"{kind} by {'' if base == 'gold' else 'the '}{text}"
