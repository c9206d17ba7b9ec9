"""The section on rewards within groups: agreement of each reward model with gold on rollouts of one prompt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from roboalign.report.blocks import Block, Cell, Chart, Prose, Section, Table, Tone
from roboalign.report.inputs import Inputs, dimensions
from roboalign.report.names import DASH, SCORERS, bounds, dig, mean_of, number, significant, title
from roboalign.report.plots import Bar, intervals
from roboalign.report.tables import difference_tone, estimate
from roboalign.types import Json

REWARD_MODELS = ("student", "judge", "held_out")
"""Metrics files with `within_groups`."""

CEILINGS = {"student": "judge", "judge": "judge", "held_out": "held_out"}
"""The metrics file with the ceiling of each reward model. The student is distilled from the judge, so it has the
judge's ceiling."""

TARGETS = {"student": "judge", "judge": "own_labels", "held_out": "own_labels"}
"""The key of the agreement with the scores that each reward model was trained on."""

VARIANTS = ("faithful", "absolute")

TEXT = (
    "A group is a set of rollouts of one prompt. GRPO and best-of-N compare rollouts only within a group, so a reward "
    "must rank these as gold does; agreement over all clips does not show that. Correlation: Pearson's correlation of "
    "total scores with gold's, both minus their mean over the group, pooled over all groups of the bench's test split. "
    "Pair accuracy: the fraction of pairs within a group that are ranked as by gold; 0.5 is chance. Intervals are 95 % "
    "bootstrap intervals over groups.",
    "Ceiling: the same value for the rubric's labels from the state probe that the reward model was trained with, "
    "compared with gold's, which come from another, separately trained probe. A reward model that reproduced its own "
    "probe's labels perfectly would reach the ceiling. The student is distilled from the judge and has the judge's "
    "ceiling.",
)


@dataclass(frozen=True)
class GroupFigures:
    """The metrics of one reward model on groups of rollouts of one length."""

    name: str
    """Name of the metrics file."""
    frames: str
    """Predicted frames of a rollout."""
    variants: dict[str, Json]
    """`group_metrics` against gold, by variant."""
    ceiling: dict[str, Json]
    """`group_metrics` of the ceiling, by variant."""
    target: dict[str, Json]
    """`group_metrics` against the scores that the model was trained on, by variant."""

    @property
    def label(self) -> str:
        """The row's heading, such as `Student, 30 frames`."""
        return f"{SCORERS[self.name]}, {self.frames} frames"


def entries(inputs: Inputs) -> list[GroupFigures]:
    """The metrics of all reward models, sorted by model and length of rollouts."""
    return list(_entries(inputs))


def _entries(inputs: Inputs) -> Iterator[GroupFigures]:
    for name in REWARD_MODELS:
        groups = dig(inputs.metrics, name, "within_groups")
        ceiling = dig(inputs.metrics, CEILINGS[name], "within_groups", "ceiling")
        lengths = {frames for variant in VARIANTS for frames in (dig(groups, "gold", variant) or {})}
        for frames in sorted(lengths, key=int):
            yield GroupFigures(
                name,
                frames,
                _by_variant(dig(groups, "gold"), frames),
                _by_variant(ceiling, frames),
                _by_variant(dig(groups, TARGETS[name]), frames),
            )


def _by_variant(metrics: Json, frames: str) -> dict[str, Json]:
    return {variant: dig(metrics, variant, frames) for variant in VARIANTS}


def within_groups(inputs: Inputs) -> Section:
    """Correlation with gold within groups, gold gained by best-of-N, and their ceilings."""
    measured = entries(inputs)
    if not measured:
        return Section("groups", "Reward within groups", [])
    blocks: list[Block] = [Prose([*TEXT, *findings(measured)])]
    blocks.append(correlations(measured))
    bars = list(_bars(measured))
    if bars:
        svg = intervals(bars, "groups", "Correlation with gold within groups", "correlation with gold", None)
        fields = ("bench.groups", "student", "evaluation.gates.student_gold_correlation")
        blocks.append(Chart("Correlation with gold within groups, with the ceiling", [svg], wide=True, fields=fields))
    names = [str(dimension["name"]) for dimension in dimensions(inputs)]
    for table in (best_of(measured), by_dimension(measured, names)):
        blocks += [replace(table, folded=True)] if table.rows and len(table.head) > 1 else []
    return Section("groups", "Reward within groups", blocks)


def findings(measured: Sequence[GroupFigures]) -> list[str]:
    """One paragraph on the student: its faithful correlation with the ceiling, and the gold that best-of-N gains."""
    sentences = []
    for entry in (entry for entry in measured if entry.name == "student"):
        figures, ceiling = entry.variants["faithful"], entry.ceiling["faithful"]
        value, limit = mean_of(dig(figures, "correlation")), mean_of(dig(ceiling, "correlation"))
        if value is None:
            continue
        text = f"On rollouts of {entry.frames} frames, the student's faithful total has a correlation with gold of "
        text += f"{number(value)}" + (f"; the ceiling is {number(limit)}" if limit is not None else "")
        sizes = [int(size) for size in dig(figures, "best_of") or {}]
        gain = dig(figures, "best_of", str(max(sizes))) if sizes else None
        mean, interval = mean_of(gain), bounds(gain)
        if mean is not None and interval is not None:
            sign = (
                "above 0" if interval[0] > 0 else "below 0" if interval[1] < 0 else "not significantly different from 0"
            )
            text += f". The best of {max(sizes)} rollouts by it gains {number(mean)} points of gold, {sign}"
        sentences.append(text + ".")
    return [" ".join(sentences)] if sentences else []


def correlations(measured: Sequence[GroupFigures]) -> Table:
    """One row for each reward model and length: correlation with gold, ceiling, pair accuracy, and correlation with the
    training scores; faithful before absolute."""
    head = ["Reward model", "Groups"]
    for variant in VARIANTS:
        columns = ("With gold\n", "Ceiling\n", "Pair accuracy\n", "With training\nscores, ")
        head += [column + variant for column in columns]
    rows = []
    for entry in measured:
        row = [Cell(entry.label), _groups(entry)]
        for variant in VARIANTS:
            figures = entry.variants[variant]
            row += [
                estimate(dig(figures, "correlation"), tone="strong"),
                estimate(dig(entry.ceiling[variant], "correlation"), tone="muted"),
                estimate(dig(figures, "pair_accuracy"), 3),
                estimate(dig(entry.target[variant], "correlation")),
            ]
        rows.append(row)
    return Table(
        "Correlation within groups of rollouts of one prompt, and pair accuracy against gold",
        head,
        rows,
        "Training scores: the judge's scores for the student, the labels by its own state probe for a judge. A high "
        "correlation with these and a low one with gold means that the state probe is the limit, not the training.",
    )


def _groups(entry: GroupFigures) -> Cell:
    """The number of groups, and their size as a note."""
    figures = entry.variants["faithful"] or entry.variants["absolute"]
    count, size = dig(figures, "groups"), dig(figures, "size")
    return Cell(DASH if count is None else significant(count), "" if size is None else f"of {significant(size)}")


def _bars(measured: Sequence[GroupFigures]) -> Iterator[Bar]:
    """The correlations with intervals: faithful, ceiling, absolute."""
    estimates = [
        *(("faithful", entry.label, entry.variants["faithful"]) for entry in measured),
        *(("ceiling, faithful", entry.label, entry.ceiling["faithful"]) for entry in measured),
        *(("absolute", entry.label, entry.variants["absolute"]) for entry in measured),
    ]
    for group, label, figures in estimates:
        value = dig(figures, "correlation")
        mean, interval = mean_of(value), bounds(value)
        if mean is not None and interval is not None:
            yield Bar(label, group, mean, *interval)


def best_of(measured: Sequence[GroupFigures]) -> Table:
    """One row for each reward model and length: gold gained by choosing the best of N; ceilings are grey."""
    lines: list[tuple[str, Tone, Mapping[str, Json]]] = [(entry.label, "", entry.variants) for entry in measured]
    ceilings = {(CEILINGS[entry.name], entry.frames): entry.ceiling for entry in measured}
    lines += [
        (f"Labels by the {SCORERS[source].lower()}'s probe, {frames} frames", "muted", ceiling)
        for (source, frames), ceiling in ceilings.items()
    ]
    columns = [
        (variant, size)
        for variant in VARIANTS
        for size in sorted({int(size) for _, _, figures in lines for size in dig(figures, variant, "best_of") or {}})
    ]
    rows = []
    for label, tone, figures in lines:
        values = [dig(figures, variant, "best_of", str(size)) for variant, size in columns]
        if any(mean_of(value) is not None for value in values):
            cells = [estimate(value, 3, tone or difference_tone(value), sign=True) for value in values]
            rows.append([Cell(label, tone=tone), *cells])
    return Table(
        "Gold gained by best-of-N: gold total of the rollout with the highest score, minus the mean of its group",
        ["Chosen by", *(f"N = {size}\n{variant}" for variant, size in columns)],
        rows,
        "Expectation over all subsets of N rollouts of a group, in points. Faithful scores are measured by faithful "
        "gold, absolute scores by absolute gold. Coloured: the 95 % interval over groups excludes 0. Grey: ceilings.",
    )


def by_dimension(measured: Sequence[GroupFigures], names: Sequence[str]) -> Table:
    """Correlation with gold within groups, one row for each dimension; ceilings are grey."""
    columns: list[tuple[str, bool, Json]] = []
    for frames in dict.fromkeys(entry.frames for entry in measured):
        same = [entry for entry in measured if entry.frames == frames]
        columns += [(entry.label.replace(", ", "\n"), False, entry.variants["faithful"]) for entry in same]
        for source in dict.fromkeys(CEILINGS[entry.name] for entry in same):
            ceiling = next(entry.ceiling["faithful"] for entry in same if CEILINGS[entry.name] == source)
            columns.append((f"Ceiling, {SCORERS[source].lower()}\n{frames} frames", True, ceiling))
    columns = [column for column in columns if dig(column[2], "by_dimension")]
    rows = []
    for name in names:
        values = [(dig(figures, "by_dimension", name), muted) for _, muted, figures in columns]
        rows.append([Cell(title(name)), *(estimate(value, tone="muted" if muted else "") for value, muted in values)])
    return Table(
        "Correlation with gold within groups by dimension, faithful scores",
        ["Dimension", *(heading for heading, _, _ in columns)],
        rows,
        f"{DASH}: gold or the reward model gives all rollouts of every group the same score.",
    )
