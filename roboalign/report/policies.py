"""The section on policies: their success in the simulators against that in the world models, and clips of both."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from roboalign.report.blocks import Block, Cell, Chart, ClipComparison, Prose, Section, Table
from roboalign.report.clips import Showcase, animation_uri, strip_uri
from roboalign.report.inputs import Inputs
from roboalign.report.names import dig, model, title, words
from roboalign.report.plots import INK, PALETTE, SETTINGS, svg
from roboalign.report.tables import EMPTY, estimate, gates
from roboalign.types import Json

MODELS = ("supervised", "aligned")
STATISTICS = (("pearson", "Pearson"), ("spearman", "Spearman"), ("mmrv", "Rank violation"))
CLIP_HEIGHT = 128
"""Height in pixels of the clips."""


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
        chart = scatter(each, models)
        blocks.append(Chart("Success in the world models against success in the simulators, one dot a policy", chart))
    blocks.append(success(each, models))
    agreements = [
        table
        for table in (
            agreement("Agreement with the simulators, all policies", _by_source(metrics, models)),
            agreement("Agreement by horizon in frames", _flatten(dig(metrics, "by_horizon"), "{} frames")),
            agreement("Agreement of the supervised model by decoding", _named(dig(metrics, "by_decoding"))),
            agreement("Agreement by judge of success", _flatten(dig(metrics, "by_judge"), "{}")),
            agreement("Baselines", _named(dig(metrics, "baselines"))),
        )
        if table.rows
    ]
    blocks += [*agreements, *optimism(metrics)]
    blocks += [clip_comparison(showcase, inputs) for showcase in inputs.policy_showcases]
    return Section("policies", "Policies", blocks)


def introduction(metrics: Json, each: Mapping[str, Json]) -> str:
    """What was evaluated."""
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


def scatter(each: Mapping[str, Json], models: Sequence[str]) -> str:
    """An `<svg>` of success in each model against success in the simulator, with Wilson's intervals."""
    with matplotlib.rc_context({**SETTINGS, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(3.6 * len(models) + 0.4, 3.9), layout="constrained")
        axes = figure.subplots(1, len(models), squeeze=False)[0]
        for number, (ax, name) in enumerate(zip(axes, models, strict=True)):
            for open_loop, marker in ((False, "o"), (True, "s")):
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
                label = "open loop" if open_loop else "closed loop"
                ax.errorbar(
                    x, y, xerr=errors[0], yerr=errors[1], fmt=marker, markersize=5, elinewidth=0.8, alpha=0.8,
                    color=PALETTE[int(open_loop)], label=label if number == 0 else None,
                )  # fmt: skip
            ax.plot([0, 1], [0, 1], linestyle=":", linewidth=0.8, color=INK)
            ax.set_xlim(-0.03, 1.03)
            ax.set_ylim(-0.03, 1.03)
            ax.set_title(model(name))
            ax.set_xlabel("success in the simulator")
        axes[0].set_ylabel("success in the world model")
        figure.legend(loc="outside lower left", ncols=2)
    return svg(figure, "policies", "Success of policies in world models against success in simulators")


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


def _named(metrics: Json) -> list[tuple[str, Json]]:
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


def clip_comparison(showcase: Showcase, inputs: Inputs) -> ClipComparison:
    """The same policy from the same first frame in each world."""
    still, numbers = strip_uri(showcase, inputs.stills)
    return ClipComparison(
        f"{showcase.source}, {showcase.episode}",
        showcase.pick,
        showcase.instruction,
        [column.title for column in showcase.columns],
        [column.score for column in showcase.columns],
        animation_uri(showcase, CLIP_HEIGHT, inputs.fps),
        still,
        numbers,
    )
