"""The sections of how the results came about: judge and student, alignment, training, data."""

from collections.abc import Mapping, Sequence

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Picture, Section, Table
from roboalign.report.inputs import Inputs, dimensions, perceptual
from roboalign.report.names import dig, named, significant, title
from roboalign.report.plots import histograms, lines
from roboalign.types import Json

AGREEMENT = ("mae", "constant_mae", "spearman", "kendall", "qwk")
"""Columns of agreement tables; `constant_mae` is the error of always giving the training mean."""

GROUPS: Mapping[str, str] = {
    "held_out_degradations": "kinds of degradation that its training left out",
    "generated": "generated clips",
    "labels": "the rubric's labels instead of the judge",
}
"""Nested agreement tables of the judge and the student, and what they are measured on."""


def reward_quality(inputs: Inputs) -> Section:
    """How well the judge reads the rubric's labels, and the student the judge."""
    blocks: list[Block] = []
    rows = [*(str(dimension["name"]) for dimension in dimensions(inputs)), "total"]
    for part, whom in (("judge", "the rubric's labels"), ("student", "the judge")):
        metrics = inputs.metrics.get(part)
        if not metrics:
            continue
        caption = f"{title(part)} against {whom}, test clips{_clips_n(metrics)}"
        blocks.append(tables.by_name(caption, metrics, rows, AGREEMENT))
        for group, what in GROUPS.items():
            nested = dig(metrics, group)
            if isinstance(nested, Mapping):
                word = "against" if group == "labels" else "on"
                table = tables.by_name(f"{title(part)} {word} {what}{_clips_n(nested)}", nested, rows, AGREEMENT)
                blocks.append(table if table.rows else tables.flat(f"{title(part)} {word} {what}", nested))
        blocks.append(tables.flat(f"{title(part)}, further figures", metrics, [*rows, *GROUPS]))
    return Section("reward", "Judge and student", [b for b in blocks if not isinstance(b, Table) or b.rows])


def _clips_n(metrics: Json) -> str:
    count = dig(metrics, "n")
    return f", n = {significant(count)}" if isinstance(count, int) else ""


def alignment(inputs: Inputs) -> Section:
    """GRPO's curves, and what would show reward hacking."""
    metrics = inputs.metrics.get("rl")
    blocks: list[Block] = []
    for key, caption in (
        ("reward", "Reward before and after alignment, sampled rollouts of test prompts"),
        ("indicators", "What would show reward hacking, before and after"),
    ):
        table = tables.before_after(caption, dig(metrics, key) or {})
        blocks += [table] if table.rows else []
    panels = charts.panels(inputs.curves.get("rl", ()))
    if panels:
        chart = lines(panels, 3, "rl", "Curves of alignment by update", 1.9)
        blocks.append(Picture("By policy update, on training prompts", chart))
    if metrics:
        table = tables.flat("Further figures", metrics, ["reward", "indicators"])
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
            metrics = named(inputs.metrics[part], perceptual(inputs))
            # The gates stand in their own section.
            caption = f"{title(part)}, on test episodes"
            blocks.append(tables.flat(caption, metrics, ["by_source", "gates", "perceptual_name"]))
            by_source = dig(metrics, "by_source")
            if isinstance(by_source, Mapping):
                blocks.append(tables.turned(tables.grid(f"{title(part)}, by source", by_source, "Source")))
    return Section("training", "Training", blocks)


def data_card(inputs: Inputs) -> Section:
    """Where episodes and labels come from."""
    blocks: list[Block] = []
    by_source = dig(inputs.metrics, "sources", "sources") or inputs.metrics.get("sources")
    if isinstance(by_source, Mapping) and any(isinstance(value, Mapping) for value in by_source.values()):
        blocks.append(tables.grid("Recorded episodes by source", by_source, "Source"))
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
            if (histogram := _histogram(str(dimension["name"]), float(dimension["maximum"]), bench)) is not None
        ]
        if bars:
            chart = histograms(bars, 3, "labels", "Labels of the bench by dimension")
            blocks.append(Picture("Labels by dimension: pairs by score, the lower edge of each bar below it", chart))
        for key, caption in (
            ("by_degradation", "Pairs by degradation"),
            ("by_provenance", "Pairs by where the label came from"),
            ("by_split", "Pairs by split"),
            ("mean_total_by_origin", "Mean total label by origin"),
        ):
            if isinstance(values := dig(bench, key), Mapping):
                blocks.append(tables.flat(caption, values))
        if isinstance(rubric := dig(bench, "rubric"), Mapping):
            blocks.append(
                tables.grid("The rubric on recorded episodes: successful experts against failures", rubric, "Source")
            )
    return Section("data", "Data card", blocks)


def _histogram(name: str, maximum: float, bench: Json) -> tuple[str, list[str], list[float]] | None:
    """Name, lower edges and counts of a dimension's bars, which are of equal width from 0 to its maximum."""
    counts = dig(bench, "dimensions", name, "histogram")
    if not isinstance(counts, Sequence) or isinstance(counts, str) or not counts:
        return None
    # Every second edge is named: all of them would run into each other.
    edges = [f"{maximum * number / len(counts):.3g}" if number % 2 == 0 else "" for number in range(len(counts))]
    return title(name), edges, [float(count) for count in counts]
