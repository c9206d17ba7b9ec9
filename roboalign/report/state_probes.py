"""The section on the state probes: the errors of the states that they predict from frames."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from roboalign.report import charts
from roboalign.report.blocks import Block, Cell, Prose, Section, Table
from roboalign.report.inputs import Inputs
from roboalign.report.names import dig, join_words, mean_of, significant, title
from roboalign.report.plots import line_chart
from roboalign.report.tables import EMPTY, estimate
from roboalign.types import Json

PROBES: Mapping[str, str] = {"judge": "Judge's", "gold": "Gold's", "held_out": "Held-out"}
"""Names of the probes in column headings."""

MEDIA: Mapping[str, tuple[str, ...]] = {
    "true frames": ("true",),
    "reconstructed": ("reconstructed",),
    "generated": ("generated", "from_true_outcome"),
}
"""Kinds of frames, and the path of their errors in a metrics file."""

NESTED = ("pixels", "disagreement")
"""Groups of metrics with their own tables."""

POSITIONS = ("gripper_cm", "object_cm", "goal_cm")

TEXT = (
    "A state probe is a small network that predicts the simulator's state from frames. Three probes were trained "
    "separately, on disjoint episodes and with different seeds and widths: the judge's is its perception and labels "
    "the clips that it is trained on, gold's is the perception of the gold scorer, and the held-out judge has its own. "
    "The probes therefore make different errors, and one probe does not confirm the errors of another.",
    "The true state of a generated frame is not known. Its column has the distance from the true outcome of the same "
    "actions, which includes the world model's error.",
)

OUTCOME_TEXT = (
    "The outcome model of a probe predicts the states that the probe would perceive in the true future, from the "
    "perceived state of the first frame and the actions. Reward models compare clips with this prediction. It is "
    "useful if its errors are well below those of a prediction that nothing moves. Gold uses the true future instead."
)


def state_probes(inputs: Inputs) -> Section:
    """Errors of the probes side by side, of their outcome models, and of baselines that do not use the frames."""
    heading = "State probes"
    reported = {name: value for name in PROBES if (value := inputs.metrics.get(f"probe/{name}"))}
    if not reported:
        return Section("probe", heading, [])
    measured = {name: value for name, value in reported.items() if dig(value, "n")}
    if not measured:
        return Section("probe", heading, [Prose(["No test episode has states, so the probes were not measured."])])
    blocks: list[Block] = [Prose([*TEXT, *sizes(measured)]), errors(measured)]
    nested = (nested_table(measured, "disagreement"), nested_table(measured, "pixels"))
    blocks += [replace(table, folded=True) for table in nested if table.rows]
    table = outcome_errors(measured)
    if table.rows:
        blocks += [Prose([OUTCOME_TEXT]), table]
    table = by_source(measured)
    blocks += [replace(table, folded=True)] if table.rows else []
    curves = [{"probe": name} | dict(row) for name in PROBES for row in inputs.curves.get(f"probe/{name}", ())]
    panels = charts.panels(curves, log=("loss",))
    if panels:
        blocks.append(line_chart("Training curves of the state probes", panels, "probe", ("probe",)))
    return Section("probe", heading, blocks)


def sizes(measured: Mapping[str, Json]) -> list[str]:
    """One sentence on the numbers of parameters and ensemble members."""
    texts = []
    for name, value in measured.items():
        count, members = dig(value, "parameters"), dig(value, "members")
        if isinstance(count, int):
            several = f" in {members} members" if isinstance(members, int) and members > 1 else ""
            texts.append(f"{PROBES[name].lower()} {significant(count)}{several}")
    return [f"Parameters: {join_words(texts)}."] if texts else []


def errors(measured: Mapping[str, Json]) -> Table:
    """One row for each part of the state; columns for the probes by kind of frame, and for the baselines."""
    columns: list[tuple[str, Json]] = []
    for medium, path in MEDIA.items():
        columns += [(f"{PROBES[name]}\n{medium}", dig(value, *path)) for name, value in measured.items()]
    first = next(iter(measured.values()))
    columns += [
        ("Always the\nmean state", dig(first, "baselines", "mean_state")),
        ("Always the\nfirst state", dig(first, "baselines", "first_state")),
    ]
    columns = [(heading, value) for heading, value in columns if value]
    counts = sorted({int(dig(value, "n")) for value in measured.values()})
    episodes = f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
    return Table(
        f"Errors of the three probes on test episodes, {episodes} episodes; mean and 95 % interval",
        ["Part of the state", *(heading for heading, _ in columns)],
        _rows(columns),
        "AUC and balanced accuracy: higher is better, 0.5 is chance; the others are mean absolute errors. The last two "
        "columns are baselines that do not use the frames.",
    )


def _rows(columns: Sequence[tuple[str, Json]], leave_out: Sequence[str] = (*NESTED, "n")) -> list[list[Cell]]:
    """One row for each metric that any column has, without those in `leave_out`."""
    keys = dict.fromkeys(key for _, value in columns for key in value if key not in leave_out)
    measured = [key for key in keys if any(mean_of(dig(value, key)) is not None for _, value in columns)]
    return [[Cell(title(key)), *(estimate(dig(value, key)) for _, value in columns)] for key in measured]


def nested_table(measured: Mapping[str, Json], key: str) -> Table:
    """The table of a nested group of metrics (`disagreement` or `pixels`), probes side by side by kind of frame."""
    columns: list[tuple[str, Json]] = []
    for medium, path in MEDIA.items():
        values = [(name, dig(value, path[0], key)) for name, value in measured.items()]
        columns += [(f"{PROBES[name]}\n{medium}", value) for name, value in values if value]
    caption, note = {
        "disagreement": (
            "Disagreement of a probe's ensemble members",
            "It estimates the probe's error if the members err independently.",
        ),
        "pixels": ("Errors in pixels", ""),
    }[key]
    return Table(caption, ["", *(heading for heading, _ in columns)], _rows(columns, ()) if columns else [], note)


def outcome_errors(measured: Mapping[str, Json]) -> Table:
    """Errors of the outcome models, and of a prediction that nothing moves."""
    models = {name: value for name in measured if (value := dig(measured[name], "outcome"))}
    head = ["Part of the state"]
    for name in models:
        head += [f"{PROBES[name]}\noutcome model", f"{PROBES[name]}\nnothing moves"]
    rows = []
    for key in ("gripper_cm", "object_cm"):
        pairs = [(dig(value, key), dig(value, f"{key}_still")) for value in models.values()]
        cells = [cell for pair in pairs for cell in (estimate(pair[0]), estimate(pair[1], tone="muted"))]
        if any(cell.text != EMPTY.text for cell in cells):
            rows.append([Cell(title(key)), *cells])
    if any(mean_of(dig(value, "success_auc")) is not None for value in models.values()):
        cells = [cell for value in models.values() for cell in (estimate(dig(value, "success_auc"), 3), EMPTY)]
        rows.append([Cell("Success AUC"), *cells])
    counts = {int(n) for value in models.values() if (n := dig(value, "object_cm", "n")) is not None}
    episodes = f", n = {max(counts)} episodes" if counts else ""
    return Table(
        f"Outcome models: distance of predicted positions from those perceived in the true future{episodes}",
        head,
        rows,
        "Mean over the frames of an episode, 95 % interval over test episodes. Success AUC: separation of perceived "
        "true successes and failures by the predicted success at the last frame; 0.5 is chance.",
    )


def by_source(measured: Mapping[str, Json]) -> Table:
    """Position errors on true frames, one row for each source."""
    sources = dict.fromkeys(source for value in measured.values() for source in dig(value, "by_source") or {})
    columns = [(key, name) for key in POSITIONS for name in measured]
    rows = [
        [Cell(source), *(estimate(dig(measured[name], "by_source", source, "true", key)) for key, name in columns)]
        for source in sources
    ]
    return Table(
        "Errors of positions on true frames by source",
        ["Source", *(f"{PROBES[name]}\n{title(key)}" for key, name in columns)],
        rows,
    )
