"""The section on the state probe: how far what it sees is from what was."""

from collections.abc import Mapping

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Picture, Prose, Section
from roboalign.report.inputs import Inputs
from roboalign.report.names import dig
from roboalign.report.plots import lines
from roboalign.types import Json

GROUPS = ("pixels", "disagreement")
"""Nested figures, which have tables of their own."""

TEXT = (
    "The probe reads the simulator's state off the picture; through it generated clips get their labels and gold "
    "scores. Of generated frames nobody knows the state: their distance from the true outcome is the world model's "
    "error and the probe's together, and the distance of the probe's members from each other, on the same frames, "
    "tells of the probe's alone."
)


def probe(inputs: Inputs) -> Section:
    """Errors on true, reconstructed and generated test frames, beside answers that look at no frame."""
    metrics = inputs.metrics.get("probe")
    heading = "State probe"
    if not metrics:
        return Section("probe", heading, [])
    if not dig(metrics, "n"):
        return Section("probe", heading, [Prose(["No test episode has states: the probe was not measured."])])
    blocks: list[Block] = [
        Prose([TEXT]),
        tables.turned(tables.grid("Errors of the state by what the frames are, test episodes", columns(metrics), "")),
    ]
    apart = {name: dig(metrics, name, "disagreement") for name in ("true", "reconstructed", "generated")}
    seen = {name: dig(metrics, name, "pixels") for name in ("true", "reconstructed")}
    for caption, found in (("Distance of the probe's members from each other", apart), ("Errors in pixels", seen)):
        known = {name: value for name, value in found.items() if isinstance(value, Mapping)}
        if known:
            blocks.append(tables.turned(tables.grid(caption, known, "")))
    by_source = dig(metrics, "by_source")
    if isinstance(by_source, Mapping):
        true = {source: plain(dig(value, "true")) for source, value in by_source.items()}
        blocks.append(tables.turned(tables.grid("On true frames, by source", true, "")))
    panels = charts.panels(inputs.curves.get("probe", ()), log=("loss",))
    if panels:
        blocks.append(Picture("Training", lines(panels, 3, "probe", "Training curves of the probe", 1.9)))
    return Section("probe", heading, blocks)


def columns(metrics: Json) -> dict[str, Json]:
    """The figures by medium, and of the trivial answers."""
    found = {
        "true frames": dig(metrics, "true"),
        "reconstructed": dig(metrics, "reconstructed"),
        "generated, from the true outcome": dig(metrics, "generated", "from_true_outcome"),
        "always the mean state": dig(metrics, "baselines", "mean_state"),
        "always the first state": dig(metrics, "baselines", "first_state"),
    }
    return {name: plain(value) for name, value in found.items() if value}


def plain(figures: Json) -> Json:
    """Figures without their nested groups."""
    return {name: value for name, value in (figures or {}).items() if name not in GROUPS}
