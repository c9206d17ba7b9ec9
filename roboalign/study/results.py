"""What a study found: gains of each run over its supervised model, runs compared with the reference, their pool."""

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
    """What one run left behind."""

    revision: str
    """Its commit."""
    changes: tuple[str, ...]
    """The values that it changes, as `dvc exp run -S` takes them."""
    evaluation: Mapping[str, Any]
    """metrics/evaluation.json."""
    totals: Totals


def read_totals(table: str) -> Totals:
    """The totals in the text of artifacts/evaluation/scores.tsv."""
    result: Totals = {}
    for row in csv.DictReader(io.StringIO(table), delimiter="\t"):
        place = row["episode"], row["sample"]
        result.setdefault((row["model"], row["scorer"]), {})[place] = float(row["total"])
    return result


def pairs(one: Totals, other: Totals, model: str, against: str, scorer: str) -> tuple[list[float], list[float]]:
    """The totals of clip set `model` of one run and `against` of another, of the clips that both have."""
    ours, theirs = one.get((model, scorer), {}), other.get((against, scorer), {})
    shared = [place for place in ours if place in theirs]
    return [ours[place] for place in shared], [theirs[place] for place in shared]


def summarise(study: StudySpec, results: Mapping[str, RunResult]) -> dict[str, Json]:
    """The figures of a study: {runs: {run: {revision, changes, gains: {comparison: {before, after, scorers,
    outcomes}}}}, against_reference: {run: {comparison: {scorer: interval}}}, pooled: {comparison: {scorer: interval}}}.

    Gains are paired differences of a run's two clip sets over episodes; `against_reference` compares the first clip
    set of the reference with that of each other run, so that positive figures favour the reference.
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
    found: dict[str, Json] = {"question": study.question, "reference": study.reference, "runs": runs}
    if against:
        found["reference_less_others"] = against
    if study.pooled:
        found["pooled"] = {
            label(each): _pool(list(results.values()), each, study.scorers) for each in study.comparisons
        }
    return found


def label(comparison: ComparisonSpec) -> str:
    """The name of a comparison in a table."""
    return f"{comparison.model} less {comparison.against}"


def _gain(result: RunResult, comparison: ComparisonSpec, scorers: Sequence[str]) -> dict[str, Json]:
    model, against = comparison.model, comparison.against
    scores: dict[str, Json] = {}
    for scorer in scorers:
        ours, theirs = pairs(result.totals, result.totals, model, against, scorer)
        if len(ours) > 1:
            before, after = float(np.mean(theirs)), float(np.mean(ours))
            scores[scorer] = {"before": before, "after": after, **paired_difference(ours, theirs).json()}
    differences: Any = result.evaluation.get("differences", {})
    outcomes: Json = differences.get(model, {}).get(against, {}).get("outcomes", {})
    return {"scorers": scores, "outcomes": outcomes}


def _between(one: RunResult, other: RunResult, model: str, scorers: Sequence[str]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for scorer in scorers:
        ours, theirs = pairs(one.totals, other.totals, model, model, scorer)
        if len(ours) > 1:
            found[scorer] = paired_difference(ours, theirs).json()
    return found


def _pool(results: Sequence[RunResult], comparison: ComparisonSpec, scorers: Sequence[str]) -> dict[str, Json]:
    """The mean gain over runs and episodes, of the clips that all runs have."""
    found: dict[str, Json] = {}
    for scorer in scorers:
        gains: list[dict[tuple[str, str], float]] = []
        for result in results:
            ours = result.totals.get((comparison.model, scorer), {})
            theirs = result.totals.get((comparison.against, scorer), {})
            gains.append({place: ours[place] - theirs[place] for place in ours if place in theirs})
        shared = [place for place in gains[0] if all(place in gain for gain in gains)]
        if len(shared) > 1:
            found[scorer] = hierarchical([[gain[place] for place in shared] for gain in gains]).json()
    return found
