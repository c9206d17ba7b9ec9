"""The results of a study: gains of each run, comparisons with the reference run, and pooled gains."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from roboalign.evaluation.gates import alignment_rules, decide
from roboalign.evaluation.outcomes import Outcomes, outcome_gains
from roboalign.evaluation.spec import FAITHFUL, TOTAL, ComparisonSpec
from roboalign.metrics.statistics import hierarchical, paired_difference
from roboalign.spec.experiment import StudySpec
from roboalign.types import Json

Totals = dict[tuple[str, str], dict[str, float]]
"""The total scores of a run: {(clip set, scorer): {episode: mean total of its samples}}."""


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
    outcomes: Mapping[str, Outcomes]
    """The outcomes of each clip set; empty if the run did not measure them."""


def read_totals(table: str) -> Totals:
    """Read the totals from the text of artifacts/evaluation/scores.tsv."""
    samples: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in csv.DictReader(io.StringIO(table), delimiter="\t"):
        episodes = samples.setdefault((row["model"], row["scorer"]), {})
        episodes.setdefault(row["episode"], []).append(float(row["total"]))
    return {key: {name: fmean(totals) for name, totals in each.items()} for key, each in samples.items()}


def pairs(one: Totals, other: Totals, model: str, against: str, scorer: str) -> tuple[list[float], list[float]]:
    """Paired totals by `scorer` of clip set `model` of run `one` and clip set `against` of run `other`, for the
    episodes that both have."""
    left, right = one.get((model, scorer), {}), other.get((against, scorer), {})
    shared = [episode for episode in left if episode in right]
    return [left[episode] for episode in shared], [right[episode] for episode in shared]


def summarise(study: StudySpec, results: Mapping[str, RunResult]) -> dict[str, Json]:
    """The results of a study.

    {runs: {run: {revision, changes, gains: {comparison: {scorers, outcomes}}}},
    reference_less_others: {run: {comparison: {scorer: interval}}},
    pooled: {comparison: {scorers, outcomes}}, gates, gates_not_measured}

    Gains are paired differences of a run's two clip sets over episodes. `reference_less_others` compares the first clip
    set of the reference with that of each other run, so positive values favour the reference. `pooled` and the gates
    are over runs and episodes, for a study whose runs repeat each other.
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
        pooled = {each: pool(list(results.values()), each, study.scorers) for each in study.comparisons}
        summary["pooled"] = {label(each): gain for each, gain in pooled.items()}
        summary["gates"], summary["gates_not_measured"] = pooled_gates(pooled, study.scorers)
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


def pool(results: Sequence[RunResult], comparison: ComparisonSpec, scorers: Sequence[str]) -> dict[str, Json]:
    """The mean gains over runs and episodes, for the episodes that all runs have: {scorers: {scorer: interval},
    outcomes: {measure: interval}}."""
    model, against = comparison.model, comparison.against
    totals: dict[str, list[Mapping[str, float]]] = {}
    outcomes: dict[str, list[Mapping[str, float]]] = {}
    for result in results:
        for scorer in scorers:
            new, old = result.totals.get((model, scorer), {}), result.totals.get((against, scorer), {})
            gain = {episode: new[episode] - old[episode] for episode in new if episode in old}
            totals.setdefault(scorer, []).append(gain)
        if model in result.outcomes and against in result.outcomes:
            for name, gain in outcome_gains(result.outcomes[model], result.outcomes[against]).items():
                outcomes.setdefault(name, []).append(gain)
    return {"scorers": _means(totals, len(results)), "outcomes": _means(outcomes, len(results))}


def _means(gains: Mapping[str, Sequence[Mapping[str, float]]], runs: int) -> dict[str, Json]:
    """The mean of each entry that all `runs` have on two shared episodes or more, by hierarchical bootstrap."""
    result: dict[str, Json] = {}
    for name, by_run in gains.items():
        shared = [episode for episode in by_run[0] if all(episode in gain for gain in by_run)]
        if len(by_run) == runs and len(shared) > 1:
            result[name] = hierarchical([[gain[episode] for episode in shared] for gain in by_run]).json()
    return result


def pooled_gates(
    pooled: Mapping[ComparisonSpec, Mapping[str, Json]], scorers: Sequence[str]
) -> tuple[dict[str, Json], dict[str, str]]:
    """The gates on alignment, decided by pooled gains: the measured ones, and what the others need."""
    differences: dict[str, Json] = {}
    for comparison, gain in pooled.items():
        totals = {scorer: {TOTAL: value} for scorer, value in gain["scorers"].items()}
        entry = totals | {"outcomes": gain["outcomes"]}
        differences.setdefault(comparison.model, {})[comparison.against] = entry
    faithful = [name.removesuffix(FAITHFUL) for name in scorers if name.endswith(FAITHFUL)]
    return decide(alignment_rules(differences, tuple(pooled), faithful))
