"""The section on policies: their success in the simulators against that in the world models, and clips of both."""

import io
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from roboalign.report.blocks import Block, Cell, Chart, Gallery, LegendEntry, Photo, Prose, Section, Table
from roboalign.report.gates import gates
from roboalign.report.inputs import Inputs
from roboalign.report.names import dig, model, title, words
from roboalign.report.plots import INK, PALETTE, SETTINGS, svg
from roboalign.report.showcases import Showcase
from roboalign.report.tables import EMPTY, estimate
from roboalign.report.viewer import file_name, shrink
from roboalign.types import Json

MODELS = ("supervised", "aligned")
STATISTICS = (("pearson", "Pearson"), ("spearman", "Spearman"), ("mmrv", "Rank violation"))
STILLS = 8
"""Frames of a strip, evenly spaced, the first and the last among them."""
STRIP_HEIGHT = 96
"""Maximum height of a frame of a strip in pixels."""


def policies(inputs: Inputs) -> Section:
    """Whether the world models rank policies as the simulators do, and how optimistic they are."""
    metrics = inputs.metrics.get("policies")
    found: Mapping[str, Json] = dig(metrics, "policies") or {}
    declared = [*(dig(inputs.spec, "policies", "policies") or {}), *found]
    each = {name: found[name] for name in declared if name in found}
    if not each:
        return Section("policies", "Policies", [])
    models = [name for name in MODELS if any(name in value for value in each.values())]
    blocks: list[Block] = [Prose([introduction(metrics, each)])]
    if models:
        blocks.append(scatter(each, models))
    blocks.append(success(each, models))
    agreements = [
        table
        for table in (
            agreement("Agreement with the simulators, all policies", _by_source(metrics, models)),
            agreement("Agreement by horizon in frames", _flatten(dig(metrics, "by_horizon"), "{} frames")),
            agreement("Agreement of the supervised model by decoding", _rows_by_name(dig(metrics, "by_decoding"))),
            agreement("Agreement by judge of success", _flatten(dig(metrics, "by_judge"), "{}")),
            agreement(
                "Change of the agreement by alignment (aligned minus supervised, the same draws), by judge of success",
                _rows_by_name(dig(metrics, "agreement_difference")),
            ),
            agreement("Baselines", _rows_by_name(dig(metrics, "baselines"))),
        )
        if table.rows
    ]
    blocks += [*agreements, *optimism(metrics)]
    if inputs.policy_showcases:
        photos = [strip(showcase) for showcase in inputs.policy_showcases]
        blocks.append(Gallery("The same policies from the same first frames in each world", photos))
    return Section("policies", "Policies", blocks)


def introduction(metrics: Json, each: Mapping[str, Json]) -> str:
    """Describe the evaluation: policies, episodes, definition of success."""
    episodes: Mapping[str, int] = dig(metrics, "episodes") or {}
    open_loop = [name for name, value in each.items() if value.get("open_loop")]
    text = (
        f"{len(each)} policies act for {dig(metrics, 'horizon')} frames from the same first frames of "
        f"{sum(episodes.values())} {dig(metrics, 'split')} episodes of {len(episodes)} sources, in the simulators "
        "and in the world models. An episode is a success if its last frame is: by the simulator, and in a world model "
        "by the gold state probe, which was not used in training it. Intervals of correlations are bootstrapped over "
        "policies and episodes; the rank violation is SIMPLER's mean maximum, 0 for the same ranking."
    )
    if open_loop:
        text += (
            f" {len(open_loop)} of the policies are scripted: they read the simulator's state, so that the world "
            "models replay their actions open loop."
        )
    return text


def scatter(each: Mapping[str, Json], models: Sequence[str]) -> Chart:
    """The success in each model against that in the simulator, with Wilson's intervals, one panel a model."""
    caption = "Success in the world models against success in the simulators, one dot a policy"
    kinds = (("closed loop", "o", False), ("open loop", "s", True))
    present = [kind for kind in kinds if any(value.get("open_loop", False) is kind[2] for value in each.values())]
    panels = []
    for name in models:
        with matplotlib.rc_context({**SETTINGS, "axes.grid.axis": "both"}):
            figure = Figure(figsize=(3.5, 3.5), layout="constrained")
            ax = figure.subplots()
            for _, marker, open_loop in present:
                points = [v for v in each.values() if v.get("open_loop", False) is open_loop and name in v]
                if not points:
                    continue
                x, y = ([value[world]["mean"] for value in points] for world in ("simulator", name))
                errors = [
                    [
                        [max(0.0, value[world]["mean"] - value[world]["low"]) for value in points],
                        [max(0.0, value[world]["high"] - value[world]["mean"]) for value in points],
                    ]
                    for world in ("simulator", name)
                ]
                ax.errorbar(
                    x, y, xerr=errors[0], yerr=errors[1], fmt=marker, markersize=5, elinewidth=0.8, alpha=0.8,
                    color=PALETTE[int(open_loop)],
                )  # fmt: skip
            ax.plot([0, 1], [0, 1], linestyle=":", linewidth=0.8, color=INK)
            ax.set_xlim(-0.03, 1.03)
            ax.set_ylim(-0.03, 1.03)
            ax.set_title(model(name))
            ax.set_xlabel("success in the simulator")
            ax.set_ylabel("success in the world model")
        panels.append(svg(figure, f"policies.{name}", f"{caption}: {model(name)}"))
    legend = [LegendEntry(label, PALETTE[int(open_loop)]) for label, _, open_loop in present]
    return Chart(caption, panels, legend)


def success(each: Mapping[str, Json], models: Sequence[str]) -> Table:
    """The success of each policy in each world."""
    worlds = ["simulator", *models]
    rows = [
        [
            Cell(title(name), "open loop" if value.get("open_loop") else ""),
            *(estimate(value.get(world)) for world in worlds),
            _cloning_error(value.get("cloning_error")),
        ]
        for name, value in each.items()
    ]
    head = ["Policy", *(title(world) for world in worlds), "Action error"]
    note = "Action error: the mean absolute error of normalised actions on held-out demonstrations."
    return Table("Success by policy, with Wilson's 95 % intervals", head, rows, note)


def _cloning_error(errors: Json) -> Cell:
    return Cell(f"{sum(errors.values()) / len(errors):.2f}") if errors else EMPTY


def agreement(caption: str, entries: Iterable[tuple[str, Json]]) -> Table:
    """A table of correlations and rank violations, one row for each entry."""
    rows = [
        [Cell(name), *(estimate(dig(value, key)) for key, _ in STATISTICS)]
        for name, value in entries
        if isinstance(value, Mapping) and any(key in value for key, _ in STATISTICS)
    ]
    return Table(caption, ["", *(heading for _, heading in STATISTICS)], rows)


def _by_source(metrics: Json, models: Sequence[str]) -> list[tuple[str, Json]]:
    rows: list[tuple[str, Json]] = []
    for name in models:
        found: Mapping[str, Json] = dig(metrics, "agreement", name) or {}
        rows.append((f"{model(name)}, all sources", found.get("pooled")))
        rows.append((f"{model(name)}, closed loop only", found.get("closed_loop")))
        rows += [(f"{model(name)}, {source}", value) for source, value in (found.get("by_source") or {}).items()]
    return rows


def _flatten(metrics: Json, heading: str) -> list[tuple[str, Json]]:
    """Rows of {name: {model: agreement}}."""
    found: Mapping[str, Mapping[str, Json]] = metrics or {}
    return [
        (f"{model(name)}, {heading.format(words(key))}", value)
        for key, values in found.items()
        for name, value in values.items()
    ]


def _rows_by_name(metrics: Json) -> list[tuple[str, Json]]:
    found: Mapping[str, Json] = metrics or {}
    return [(title(name), value) for name, value in found.items()]


def optimism(metrics: Json) -> list[Block]:
    """The false and missed success on replayed actions, and their gate."""
    found: Mapping[str, Json] = dig(metrics, "optimism") or {}
    names = [name for name in (*MODELS, "difference") if name in found]
    if not names:
        return []
    rows: list[list[Cell]] = []
    for name in names:
        heading = "Aligned minus supervised" if name == "difference" else model(name)
        sources: Mapping[str, Json] = found.get("by_source") or {}
        entries = [("all sources", found[name]), *((source, each.get(name)) for source, each in sources.items())]
        rows += [
            [
                Cell(f"{heading}, {where}"),
                estimate(dig(value, "false_success"), sign=name == "difference"),
                estimate(dig(value, "missed_success"), sign=name == "difference"),
            ]
            for where, value in entries
        ]
    note = (
        "Actions that policies took in the simulators, replayed in the models. False success: the model shows success "
        "and the simulator failed; missed success: the reverse. Intervals are bootstrapped over episodes."
    )
    head = ["Model", "False success", "Missed success"]
    blocks: list[Block] = [Table("Optimism on action sequences of known outcome", head, rows, note)]
    if dig(metrics, "gates"):
        blocks.append(gates(metrics))
    return blocks


def strip(showcase: Showcase) -> Photo:
    """Frames of one policy from one first frame, a row for each world."""
    rows = []
    for column in showcase.columns:
        frames = shrink(column.frames, STRIP_HEIGHT)
        chosen = frames[np.linspace(0, len(frames) - 1, STILLS).round().astype(int)]
        rows.append(chosen.swapaxes(0, 1).reshape(frames.shape[1], -1, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(buffer, "WEBP", quality=90, method=4)
    worlds = ", ".join(
        f"{column.title} (success {column.scores['success']:.2f})" if column.scores else column.title
        for column in showcase.columns
    )
    [case] = showcase.cases.values()
    name = file_name(f"{showcase.source}-{showcase.instruction}")
    return Photo(
        f"{showcase.source}, {showcase.episode}: {showcase.instruction}, {case} success",
        f"images/policies/{name}.webp",
        buffer.getvalue(),
        f"From above: {worlds}. {STILLS} of {len(showcase.columns[0].frames)} frames.",
    )
