"""Charts of scores: radar charts by dimension, and scatter plots of the learned scorers against gold."""

from collections.abc import Mapping, Sequence

from roboalign.report.blocks import Chart
from roboalign.report.inputs import Inputs
from roboalign.report.names import FAITHFUL, dig, is_bound, mean_of, model, scorer, scorer_order, significant, title
from roboalign.report.plots import RadarPanel, radar_chart, scatter_chart
from roboalign.types import Json

MAX_POINTS = 300
"""Maximum number of points of a scatter plot; of more, evenly spaced ones are drawn."""


def score_charts(inputs: Inputs, names: Sequence[str], dims: Sequence[Mapping[str, Json]]) -> list[Chart]:
    """The radar chart and the scatter plots; those without values are left out.

    Args:
        inputs: The inputs of the page.
        names: The scorers, in the order of tables.
        dims: The reward's dimensions.
    """
    charts = []
    panels = radar_panels(inputs, names, dims)
    if panels and len(dims) > 2:
        fields = ("reward.dimensions", "evaluation.scorers")
        caption = "Scores by dimension, as fractions of the maximum"
        charts.append(radar_chart(caption, panels, "radar", fields))
    points = agreement_points(inputs)
    if points:
        charts.append(
            scatter_chart(
                "Totals of generated clips by the learned scorers, against gold",
                points,
                "scatter",
                "gold",
                ("evaluation.agreement", "evaluation.scorers"),
                f"One point for each clip, at most {MAX_POINTS} in a panel; dotted: equal scores. Points below the "
                "line are clips that the scorer overrates.",
            )
        )
    return charts


def radar_panels(inputs: Inputs, names: Sequence[str], dims: Sequence[Mapping[str, Json]]) -> list[RadarPanel]:
    """One panel for each scorer: the true clips, and both models with plain autoregression and SWR."""
    models = dig(inputs.metrics, "evaluation", "models") or {}
    swr = str(dig(inputs.spec, "evaluation", "gates", "swr", "model") or "supervised.swr.greedy")
    ar = str(dig(inputs.spec, "evaluation", "gates", "swr", "against") or "supervised.ar.greedy")
    shown = ["ground_truth", ar, swr, swr.replace("supervised.", "aligned.", 1)]
    panels = []
    for name in names:
        series = []
        for row in (row for row in dict.fromkeys(shown) if dig(models, row, name)):
            means = [mean_of(dig(models, row, name, str(each["name"]))) for each in dims]
            fractions = [0.0 if v is None else v / float(d["max_score"]) for v, d in zip(means, dims, strict=True)]
            if any(value is not None for value in means):
                series.append((model(row), fractions))
        if series:
            panels.append(RadarPanel(scorer(name), [title(str(each["name"])) for each in dims], series))
    return panels


def agreement_points(inputs: Inputs) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """(title, x label, points) for each learned faithful scorer: its totals and gold's of the same generated clips."""
    totals: dict[str, dict[tuple[str, str, str], float]] = {}
    for row in inputs.scores:
        if row["model"].startswith(("supervised", "aligned")) and not is_bound(row["model"]):
            totals.setdefault(row["scorer"], {})[row["model"], row["episode"], row["sample"]] = float(row["total"])
    gold = totals.get(f"gold{FAITHFUL}", {})
    panels = []
    for name in sorted(totals, key=scorer_order):
        shared = [(totals[name][key], gold[key]) for key in totals[name] if key in gold]
        if shared and name.endswith(FAITHFUL) and not name.startswith("gold"):
            step = -(-len(shared) // MAX_POINTS)
            heading = f"{scorer(name)}, {significant(len(shared))} clips"
            panels.append((heading, scorer(name.removesuffix(FAITHFUL)).lower(), shared[::step]))
    return panels
