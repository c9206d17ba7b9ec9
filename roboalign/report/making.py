"""The sections of how the results came about: judge and student, alignment, training, data."""

from collections.abc import Mapping, Sequence

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Cell, Picture, Section, Table
from roboalign.report.inputs import Inputs, dimensions
from roboalign.report.names import dig, mean_of, significant, title
from roboalign.report.plots import histograms, lines
from roboalign.types import Json


def reward_quality(inputs: Inputs) -> Section:
    """How well the judge reads the rubric's labels, and the student the judge."""
    names = [str(dimension["name"]) for dimension in dimensions(inputs)]
    judge, student = inputs.metrics.get("judge"), inputs.metrics.get("student")
    columns = ("mae", "spearman", "qwk", "kendall")
    blocks: list[Block] = []
    if judge:
        caption = f"Judge against the rubric's labels, held-out episodes{_pairs_n(judge)}"
        blocks.append(tables.by_name(caption, judge, [*names, "total"], columns))
        held_out = dig(judge, "held_out_degradations")
        if isinstance(held_out, Mapping):
            caption = "Judge on kinds of degradation that its training left out"
            table = tables.by_name(caption, held_out, [*names, "total"], columns)
            blocks.append(table if table.rows else tables.flat(caption, held_out))
        blocks.append(tables.flat("Judge, further figures", judge, [*names, "total", "held_out_degradations"]))
    if student:
        caption = f"Student against the judge{_pairs_n(student)}"
        blocks.append(tables.by_name(caption, student, [*names, "total"], columns))
        blocks.append(tables.flat("Student, further figures", student, [*names, "total"]))
    return Section("reward", "Judge and student", [b for b in blocks if not isinstance(b, Table) or b.rows])


def _pairs_n(metrics: Json) -> str:
    count = dig(metrics, "n")
    return f", n = {significant(count)} clips" if isinstance(count, int) else ""


def alignment(inputs: Inputs) -> Section:
    """GRPO's curves, and what would show reward hacking."""
    metrics = inputs.metrics.get("rl")
    blocks: list[Block] = []
    rows: list[list[Cell]] = []
    for scorer, value in sorted((dig(metrics, "reward") or {}).items()):
        if mean_of(dig(value, "before")) is None or mean_of(dig(value, "after")) is None:
            continue
        before, after = tables.estimate(value["before"], 3), tables.estimate(value["after"], 3)
        gain = float(mean_of(value["after"]) or 0) - float(mean_of(value["before"]) or 0)
        paired = {"mean": dig(value, "mean") if dig(value, "mean") is not None else gain}
        paired |= {key: value[key] for key in ("low", "high") if key in value}
        change = tables.estimate(paired, 3, tables.difference_tone(paired), sign=True)
        rows.append([Cell(title(scorer)), before, after, change])
    if rows:
        blocks.append(Table("Reward before and after alignment", ["Scorer", "Before", "After", "Paired change"], rows))
    panels = charts.panels(inputs.curves.get("rl", ()), log=("kl",))
    if panels:
        chart = lines(panels, 3, "rl", "Curves of alignment by update", 1.9)
        blocks.append(
            Picture("By policy update; the reward's rise is to be read beside the indicators of hacking", chart)
        )
    if metrics:
        table = tables.flat("Figures of alignment", metrics, ["reward"])
        blocks += [table] if table.rows else []
    return Section("alignment", "Alignment", blocks)


def training(inputs: Inputs) -> Section:
    """Training curves and the first figures of each trained part."""
    blocks: list[Block] = []
    for part in ("tokenizer", "world_model", "judge", "student"):
        panels = charts.panels(inputs.curves.get(part, ()), log=("loss", "loss_train"))
        if panels:
            blocks.append(Picture(title(part), lines(panels, 3, part, f"Training curves of the {part}", 1.9)))
        if part in ("tokenizer", "world_model") and inputs.metrics.get(part):
            blocks.append(tables.flat(f"{title(part)}, on test episodes", inputs.metrics[part]))
    return Section("training", "Training", blocks)


def data_card(inputs: Inputs) -> Section:
    """Where episodes and labels come from."""
    blocks: list[Block] = []
    by_source = dig(inputs.metrics, "sources", "sources") or inputs.metrics.get("sources")
    if isinstance(by_source, Mapping) and any(isinstance(value, Mapping) for value in by_source.values()):
        blocks.append(_grid("Recorded episodes by source", by_source))
    bench = inputs.metrics.get("bench")
    if bench:
        counts = [
            (title(key), list(map(str, value)), [float(item) for item in value.values()])
            for key in ("by_source", "by_origin")
            if isinstance(value := dig(bench, key), Mapping) and all(isinstance(v, int | float) for v in value.values())
        ]
        if counts:
            chart = histograms(counts, 2, "counts", "Pairs of the bench by source and origin")
            blocks.append(Picture(f"RobotWorldBench: {significant(dig(bench, 'pairs'))} pairs", chart))
        bars = [
            histogram
            for dimension in dimensions(inputs)
            if (histogram := _histogram(str(dimension["name"]), bench)) is not None
        ]
        if bars:
            chart = histograms(bars, 3, "labels", "Labels of the bench by dimension")
            blocks.append(Picture("Labels by dimension (pairs by score)", chart))
        degradations = dig(bench, "by_degradation")
        if isinstance(degradations, Mapping):
            blocks.append(tables.flat("Pairs by degradation", degradations))
    return Section("data", "Data card", blocks)


def _grid(caption: str, metrics: Mapping[str, Json]) -> Table:
    names = [name for name, value in metrics.items() if isinstance(value, Mapping)]
    columns = list(dict.fromkeys(key for name in names for key, v in metrics[name].items() if not isinstance(v, list)))
    rows = [[Cell(name), *(_plain(metrics[name].get(column)) for column in columns)] for name in names]
    return Table(caption, ["Source", *(title(column) for column in columns)], rows)


def _plain(value: Json) -> Cell:
    if value is None:
        return tables.EMPTY
    if isinstance(value, Mapping):
        if mean_of(value) is not None:
            return tables.estimate(value)
        return Cell(" · ".join(f"{key.replace('_', ' ')} {significant(item)}" for key, item in value.items()))
    return Cell(significant(value))


def _histogram(name: str, bench: Json) -> tuple[str, list[str], list[float]] | None:
    """Names and counts of a dimension's bars, from {edges, counts}, {bin: count} or a list of counts."""
    value = dig(bench, "histograms", name) or dig(bench, "histogram", name) or dig(bench, name)
    if isinstance(value, Mapping) and "histogram" in value:
        value = value["histogram"]
    if isinstance(value, Mapping) and "counts" in value:
        edges = value.get("edges") or list(range(len(value["counts"]) + 1))
        labels = [f"{float(edge):.3g}" for edge in edges[:-1]]
        return title(name), labels, [float(count) for count in value["counts"]]
    if isinstance(value, Mapping) and value and all(isinstance(item, int | float) for item in value.values()):
        return title(name), [str(key) for key in value], [float(item) for item in value.values()]
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return title(name), [str(number) for number in range(len(value))], [float(item) for item in value]
    return None
