"""The results of a study: gains of each run, comparisons with the reference run, and pooled gains."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roboalign.evaluation.spec import ComparisonSpec
from roboalign.metrics.statistics import hierarchical, paired_difference
from roboalign.spec.experiment import StudySpec
from roboalign.types import Json

Totals = dict[tuple[str, str], dict[tuple[str, str], float]]
"""The total scores of a run: {(clip set, scorer): {(episode, sample): total}}."""


@dataclass(frozen=True)
class RunResult:
    """The results of one run."""

    revision: str
    """Its commit."""
    changes: tuple[str, ...]
    """The values that it changes, as arguments of `dvc exp run -S`."""
    evaluation: Mapping[str, Any]
    """metrics/evaluation.json."""
    totals: Totals


def read_totals(table: str) -> Totals:
    """Read the totals from the text of artifacts/evaluation/scores.tsv."""
    result: Totals = {}
    for row in csv.DictReader(io.StringIO(table), delimiter="\t"):
        clip = row["episode"], row["sample"]
        result.setdefault((row["model"], row["scorer"]), {})[clip] = float(row["total"])
    return result


def pairs(one: Totals, other: Totals, model: str, against: str, scorer: str) -> tuple[list[float], list[float]]:
    """Paired totals by `scorer` of clip set `model` of run `one` and clip set `against` of run `other`, for the clips
    that both have."""
    left, right = one.get((model, scorer), {}), other.get((against, scorer), {})
    shared = [clip for clip in left if clip in right]
    return [left[clip] for clip in shared], [right[clip] for clip in shared]


def summarise(study: StudySpec, results: Mapping[str, RunResult]) -> dict[str, Json]:
    """The results of a study.

    {runs: {run: {revision, changes, gains: {comparison: {scorers, outcomes}}}},
    reference_less_others: {run: {comparison: {scorer: interval}}}, pooled: {comparison: {scorer: interval}}}

    Gains are paired differences of a run's two clip sets over episodes. `reference_less_others` compares the first clip
    set of the reference with that of each other run, so positive values favour the reference. `pooled` is over runs.
    """
    runs: dict[str, Json] = {}
    against: dict[str, Json] = {}
    for name, result in results.items():
        gains: dict[str, Json] = {label(each): _gain(result, each, study.scorers) for each in study.comparisons}
        runs[name] = {"revision": result.revision, "changes": list(result.changes), "gains": gains}
        if name != study.reference and study.reference in results and not study.pooled:
            against[name] = {
                label(each): _between(results[study.reference], result, each.model, study.scorers)
                for each in study.comparisons
            }
    summary: dict[str, Json] = {"question": study.question, "reference": study.reference, "runs": runs}
    if against:
        summary["reference_less_others"] = against
    if study.pooled:
        summary["pooled"] = {
            label(each): _pool(list(results.values()), each, study.scorers) for each in study.comparisons
        }
    return summary


def label(comparison: ComparisonSpec) -> str:
    """The name of a comparison in a table."""
    return f"{comparison.model} less {comparison.against}"


def _gain(result: RunResult, comparison: ComparisonSpec, scorers: Sequence[str]) -> dict[str, Json]:
    """Paired differences of a run's two clip sets: totals by scorer, and outcomes."""
    model, against = comparison.model, comparison.against
    scores: dict[str, Json] = {}
    for scorer in scorers:
        new, old = pairs(result.totals, result.totals, model, against, scorer)
        if len(new) > 1:
            before, after = float(np.mean(old)), float(np.mean(new))
            scores[scorer] = {"before": before, "after": after, **paired_difference(new, old).json()}
    differences: Any = result.evaluation.get("differences", {})
    outcomes: Json = differences.get(model, {}).get(against, {}).get("outcomes", {})
    return {"scorers": scores, "outcomes": outcomes}


def _between(one: RunResult, other: RunResult, model: str, scorers: Sequence[str]) -> dict[str, Json]:
    """Paired differences of clip set `model` between two runs, by scorer."""
    result: dict[str, Json] = {}
    for scorer in scorers:
        left, right = pairs(one.totals, other.totals, model, model, scorer)
        if len(left) > 1:
            result[scorer] = paired_difference(left, right).json()
    return result


def _pool(results: Sequence[RunResult], comparison: ComparisonSpec, scorers: Sequence[str]) -> dict[str, Json]:
    """The mean gain over runs and clips by scorer, for the clips that all runs have."""
    pooled: dict[str, Json] = {}
    for scorer in scorers:
        gains: list[dict[tuple[str, str], float]] = []
        for result in results:
            new = result.totals.get((comparison.model, scorer), {})
            old = result.totals.get((comparison.against, scorer), {})
            gains.append({clip: new[clip] - old[clip] for clip in new if clip in old})
        shared = [clip for clip in gains[0] if all(clip in gain for gain in gains)]
        if len(shared) > 1:
            pooled[scorer] = hierarchical([[gain[clip] for clip in shared] for gain in gains]).json()
    return pooled
