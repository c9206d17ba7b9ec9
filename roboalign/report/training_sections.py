"""The sections on training: agreement of the reward models with their labels, and training curves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Cell, Prose, Section, Table
from roboalign.report.inputs import Inputs, dimensions, perceptual
from roboalign.report.names import SCORERS, dig, mean_of, significant, title, with_name
from roboalign.report.plots import line_chart
from roboalign.report.tables import estimate
from roboalign.types import Json

AGREEMENT = ("mae", "constant_mae", "spearman", "kendall", "qwk")
"""Columns of agreement tables; `constant_mae` is the error of always predicting the training mean."""

REWARD_MODELS: Mapping[str, str] = {
    "judge": "the rubric's labels",
    "held_out": "the rubric's labels",
    "student": "the judge",
}
"""Metrics files of reward models, and the reference that each is compared with."""

NESTED: Mapping[str, str] = {
    "held_out_degradations": "on kinds of degradation held out from training",
    "held_out_sources": "on sources held out from training",
    "generated": "on generated clips",
    "labels": "against the rubric's labels instead of the judge",
}
"""Nested agreement tables, and the clips or references that they use."""

TEXT = (
    "Agreement over all test clips, of judges with the labels of the bench, and of the student with the judge. MAE of "
    "a constant: the error of always predicting the training mean. Labels of generated clips come from a state probe. "
    "How well a reward ranks the rollouts of one prompt is in Reward within groups."
)


def reward_quality(inputs: Inputs) -> Section:
    """Agreement of the judges with the rubric's labels, and of the student with the judge."""
    blocks: list[Block] = []
    rows = [*(str(dimension["name"]) for dimension in dimensions(inputs)), "total"]
    for part, reference in REWARD_MODELS.items():
        metrics = inputs.metrics.get(part)
        if not metrics:
            continue
        name = SCORERS[part]
        blocks.append(agreement(f"{name} against {reference}, test clips{_clips_n(metrics)}", metrics, rows))
        for key, condition in NESTED.items():
            nested = dig(metrics, key)
            if isinstance(nested, Mapping):
                blocks.append(agreement(f"{name} {condition}{_clips_n(nested)}", nested, rows, folded=True))
        if isinstance(interval := dig(metrics, "interval"), Mapping):
            level = significant(dig(interval, "level"))
            caption = f"{name}: intervals of nominal coverage {level}, and the fraction of test labels inside them"
            blocks.append(replace(tables.grid(caption, _coverages(interval, rows), "Dimension"), folded=True))
        separate = [*rows, *NESTED, "interval", "faithful", "within_groups"]
        blocks.append(replace(tables.flat(f"{name}, further figures", metrics, separate), folded=True))
    filled = [block for block in blocks if not isinstance(block, Table) or block.rows]
    return Section("reward", "Judges and student", [Prose([TEXT]), *filled] if filled else [])


def agreement(caption: str, metrics: Mapping[str, Json], rows: Sequence[str], folded: bool = False) -> Table:
    """The table of agreement by dimension, faithful before absolute scores; columns without values are left out.

    Args:
        caption: The caption.
        metrics: Metrics by dimension, and those of faithful scores under `faithful`.
        rows: The dimensions, and `total`.
        folded: Collapse the table.
    """
    kinds = [("faithful", dig(metrics, "faithful")), ("absolute", metrics)]
    columns = [
        (kind, figures, column)
        for kind, figures in kinds
        for column in AGREEMENT
        if any(mean_of(dig(figures, row, column)) is not None for row in rows)
    ]
    has_kinds = len({kind for kind, _, _ in columns}) > 1
    head = [f"{title(column)}\n{kind}" if has_kinds else title(column) for kind, _, column in columns]
    body = [
        [
            Cell(title(row)),
            *(estimate(tables.with_bounds(dig(figures, row) or {}, column)) for _, figures, column in columns),
        ]
        for row in rows
        if any(isinstance(dig(figures, row), Mapping) for _, figures in kinds)
    ]
    return Table(caption, ["Dimension", *head], body if columns else [], folded=folded)


def _coverages(interval: Mapping[str, Json], rows: Sequence[str]) -> dict[str, dict[str, Json]]:
    """Half widths and coverages of the intervals by dimension, for each pair of calibration clips and test clips."""
    result: dict[str, dict[str, Json]] = {}
    for name in rows:
        result[name] = {}
        for kind, measured in interval.items():
            if not isinstance(measured, Mapping):
                continue
            width = dig(measured, "half_width", name)
            if width is not None:
                result[name][f"{kind}: half width"] = width
            for tested, coverages in (dig(measured, "coverage") or {}).items():
                if (coverage := dig(coverages, name)) is not None:
                    result[name][f"{kind}: {tested.replace('_', ' ')}"] = coverage
    return result


def _clips_n(metrics: Json) -> str:
    count = dig(metrics, "n")
    return f", n = {significant(count)}" if isinstance(count, int) else ""


def training(inputs: Inputs) -> Section:
    """Training curves of each part, and test metrics of tokenizer and world model."""
    blocks: list[Block] = []
    for part in ("tokenizer", "world_model", "judge", "held_out", "student"):
        panels = charts.panels(inputs.curves.get(part, ()), log=("loss", "loss_train"))
        if panels:
            name = SCORERS.get(part, title(part))
            blocks.append(line_chart(f"Training curves: {name.lower()}", panels, part, (f"{part}.training",)))
        if part in ("tokenizer", "world_model") and inputs.metrics.get(part):
            metrics = with_name(inputs.metrics[part], perceptual(inputs))
            # Gates have their own section.
            caption = f"{title(part)}, on test episodes"
            blocks.append(tables.flat(caption, metrics, ["by_source", "gates", "perceptual_name"]))
            by_source = dig(metrics, "by_source")
            if isinstance(by_source, Mapping):
                table = tables.transpose(tables.grid(f"{title(part)}, by source", by_source, "Source"))
                blocks.append(replace(table, folded=True))
    return Section("training", "Training", blocks)
