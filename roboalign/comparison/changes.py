"""The differences of two runs: fields with their meaning, code, scores and other metrics, and what is noise."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from roboalign.comparison.snapshot import ComparisonError, RunSnapshot
from roboalign.metrics.statistics import holm, paired_difference, wilcoxon
from roboalign.spec.differences import differences
from roboalign.spec.docs import descriptions
from roboalign.spec.experiment import KINDS
from roboalign.study.results import Totals, pairs
from roboalign.types import Json

SIGNIFICANT = 0.05
"""Maximum p-value, after Holm's correction, of a difference that counts as more than noise (our choice)."""

MIN_EPISODES = 6
"""Minimum number of shared episodes for a p-value; with fewer, the signed-rank test cannot reach SIGNIFICANT."""

SEED = re.compile(r"(^|\.)(seed|[a-z_]+_seed)$")


@dataclass(frozen=True)
class FieldChange:
    """A changed value of the resolved spec."""

    field: str
    change: str
    """`6 → 12`, `added` or `removed`."""
    meaning: str
    """The docstring of the field; '' if it is unknown."""
    stages: tuple[str, ...]
    """The stages that read it."""


@dataclass(frozen=True)
class ScoreChange:
    """The difference of a clip set's total between the runs, B minus A, paired by episode."""

    model: str
    scorer: str
    mean: float
    low: float
    high: float
    n: int
    p: float
    """By Wilcoxon's signed-rank test, corrected by Holm over the clip sets and scorers of the comparison."""

    @property
    def is_noise(self) -> bool:
        """Whether the difference may be chance: its interval has 0, or its p-value is not SIGNIFICANT."""
        return self.low <= 0 <= self.high or self.p > SIGNIFICANT


@dataclass(frozen=True)
class MetricChange:
    """The difference of a metric with an interval, B minus A; not paired."""

    metric: str
    before: float
    after: float
    margin: float
    """Half width of the 95 % interval of the difference, from those of both values taken as independent."""

    @property
    def is_noise(self) -> bool:
        """Whether the difference is within its margin."""
        return abs(self.after - self.before) <= self.margin


@dataclass(frozen=True)
class Comparison:
    """All differences between two runs."""

    a: str
    b: str
    fields: tuple[FieldChange, ...]
    code: Mapping[str, int]
    """Number of changed files by folder."""
    scores: tuple[ScoreChange, ...]
    metrics: tuple[MetricChange, ...]
    notes: tuple[str, ...] = field(default=())
    """Remarks on the comparison: parts that could not be compared, and how to read the others."""

    @property
    def only_seeds(self) -> bool:
        """Whether the runs are repetitions: nothing but seeds differs."""
        return bool(self.fields) and not self.code and all(SEED.search(each.field) for each in self.fields)

    @property
    def verdict(self) -> str:
        """One sentence on the scores."""
        moved = [change for change in self.scores if not change.is_noise]
        if self.only_seeds:
            return (
                f"noise: the runs differ only in seeds, so the {len(moved)} of {len(self.scores)} scores that differ "
                "over episodes show the variation between training runs"
            )
        if not self.scores:
            return "unknown: there are no scores of the same clips"
        if not moved:
            return f"noise: none of {len(self.scores)} scores differs by more than chance over episodes"
        return f"{len(moved)} of {len(self.scores)} scores differ by more than chance over episodes"


def compare(a: RunSnapshot, b: RunSnapshot) -> Comparison:
    """Compare two runs. Raises ComparisonError if one has no resolved spec."""
    before, after = a.sections(), b.sections()
    readers = stage_fields(b.text("dvc.yaml") or a.text("dvc.yaml") or "")
    changed = [describe(line, before, after, readers) for line in differences(before, after, "")]
    (totals_a, metrics_a), (totals_b, metrics_b) = ((run.totals(), run.metrics()) for run in (a, b))
    notes = []
    for name, totals, metrics in ((a.name, totals_a, metrics_a), (b.name, totals_b, metrics_b)):
        absent = ["table of scores"] * (totals is None) + ["metrics"] * (not metrics)
        if absent:
            notes.append(f"{name} has no {' and no '.join(absent)} at hand; `dvc pull` or `dvc repro` brings them.")
    scores = score_changes(totals_a, totals_b) if totals_a is not None and totals_b is not None else []
    notes.append(
        "Intervals are over episodes. Other training seeds move scores, too; `study seeds` measures by how much."
    )
    moved = metric_changes(metrics_a, metrics_b)
    code = code_changes(a.code(), b.code())
    return Comparison(a.name, b.name, tuple(changed), code, tuple(scores), tuple(moved), tuple(notes))


def describe(
    line: str, before: Mapping[str, Any], after: Mapping[str, Any], readers: Mapping[str, Sequence[str]]
) -> FieldChange:
    """The change that a line of `differences` states, with its meaning and the stages that read the field."""
    name, _, change = line.partition(" ")
    text = meaning(name, after) or meaning(name, before)
    stages = [stage for stage, keys in readers.items() if any(covers(key, name) for key in keys)]
    return FieldChange(name, change, text, tuple(stages))


def meaning(name: str, sections: Mapping[str, Any]) -> str:
    """The docstring of the field, or of the nearest field above it that has one; '' if the section is not valid."""
    section, *path = name.split(".")
    if section not in KINDS or section not in sections:
        return ""
    try:
        value: Any = TypeAdapter(KINDS[section]).validate_python(sections[section])
    except ValidationError:  # a spec of another version
        return ""
    text = ""
    for part in path:
        if isinstance(value, BaseModel):
            text = descriptions(type(value)).get(part, text)
            value = getattr(value, part, None)
        elif isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Sequence) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            break
    return " ".join(text.split())


def stage_fields(graph: str) -> dict[str, list[str]]:
    """The spec keys that each stage of a dvc.yaml reads; items of a matrix are `*`."""
    try:
        stages = (yaml.safe_load(graph) or {}).get("stages", {})
    except (yaml.YAMLError, AttributeError):
        raise ComparisonError("dvc.yaml is not YAML with stages; correct it") from None
    found: dict[str, list[str]] = {}
    for name, stage in stages.items():
        for entry in stage.get("params", []):
            for keys in entry.values() if isinstance(entry, dict) else []:
                found.setdefault(name, []).extend(re.sub(r"\$\{item\.\w+\}", "*", str(key)) for key in keys)
    return found


def covers(key: str, name: str) -> bool:
    """Whether the spec key `key`, with `*` for an item, is the field `name` or above it."""
    depth = key.count(".") + 1
    return fnmatchcase(".".join(name.split(".")[:depth]), key)


def code_changes(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, int]:
    """The number of changed, added and removed files by folder (for `roboalign/io.py`: `roboalign/io.py`)."""
    counts: dict[str, int] = {}
    for path in sorted(a.keys() | b.keys()):
        if a.get(path) != b.get(path):
            folder = "/".join(path.split("/")[:2])
            counts[folder] = counts.get(folder, 0) + 1
    return counts


def score_changes(a: Totals, b: Totals) -> list[ScoreChange]:
    """The paired difference of each clip set's total by each scorer, for the episodes that both runs scored."""
    found = []
    for model, scorer in (key for key in a if key in b):
        after, before = pairs(b, a, model, model, scorer)
        if len(after) >= MIN_EPISODES:
            difference = paired_difference(after, before)
            p = wilcoxon(after, before)
            found.append((model, scorer, difference, p))
    corrected = holm([p for *_, p in found])
    return [
        ScoreChange(model, scorer, value.mean, value.low, value.high, value.n, p)
        for (model, scorer, value, _), p in zip(found, corrected, strict=True)
    ]


def metric_changes(a: Mapping[str, Json], b: Mapping[str, Json]) -> list[MetricChange]:
    """The differences of all metrics that have an interval in both runs, without those of the evaluation's scores."""
    before, after = dict(intervals(a)), dict(intervals(b))
    found = []
    for name in (name for name in before if name in after and before[name] != after[name]):
        (mean_a, low_a, high_a), (mean_b, low_b, high_b) = before[name], after[name]
        margin = (((high_a - low_a) / 2) ** 2 + ((high_b - low_b) / 2) ** 2) ** 0.5
        found.append(MetricChange(name, mean_a, mean_b, margin))
    return found


def intervals(metrics: Mapping[str, Json], above: str = "") -> Iterator[tuple[str, tuple[float, float, float]]]:
    """(path, (mean, low, high)) of each value with an interval; scores of the evaluation are left out."""
    for key, value in metrics.items():
        path = f"{above}/{key}" if above else str(key)
        if not isinstance(value, Mapping) or path in ("evaluation/models", "evaluation/differences"):
            continue
        numbers = [float(number) for name in ("mean", "low", "high") if (number := value.get(name)) is not None]
        if len(numbers) == 3:
            yield path, (numbers[0], numbers[1], numbers[2])
        else:
            yield from intervals(value, path)
