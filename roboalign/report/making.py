"""The sections of how the results came about: judge and student, alignment, training, data."""

from collections.abc import Mapping, Sequence

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Picture, Section, Table
from roboalign.report.inputs import Inputs, dimensions, perceptual
from roboalign.report.names import dig, named, significant, title
from roboalign.report.plots import lines
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
        if isinstance(interval := dig(metrics, "interval"), Mapping):
            level = significant(dig(interval, "level"))
            caption = f"{title(part)}: intervals of nominal coverage {level}, and the share of test labels in them"
            blocks.append(tables.grid(caption, _coverages(interval, rows), "Dimension"))
        blocks.append(tables.flat(f"{title(part)}, further figures", metrics, [*rows, *GROUPS, "interval"]))
    return Section("reward", "Judge and student", [b for b in blocks if not isinstance(b, Table) or b.rows])


def _coverages(interval: Mapping[str, Json], rows: Sequence[str]) -> dict[str, dict[str, Json]]:
    """By dimension: half widths and coverages of the intervals, by the clips that tell the error and those tested."""
    result: dict[str, dict[str, Json]] = {}
    for name in rows:
        result[name] = {}
        for kind, measured in interval.items():
            if not isinstance(measured, Mapping):
                continue
            width = dig(measured, "half_width", name)
            if width is not None:
                result[name][f"{kind}: half width"] = width
            for tested, shares in (dig(measured, "coverage") or {}).items():
                if (share := dig(shares, name)) is not None:
                    result[name][f"{kind}: {tested.replace('_', ' ')}"] = share
    return result


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
