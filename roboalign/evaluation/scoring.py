"""Scores of clip sets by all scorers, best-of-n selection, means with intervals, and paired differences.

The unit of every statistic is the episode. If an episode has several rollouts (sampling seeds), their scores are
averaged first, so that more seeds do not count as more episodes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.evaluation.clips import Clip
from roboalign.evaluation.outcomes import Outcomes, outcome_difference, outcome_summary
from roboalign.evaluation.spec import (
    FAITHFUL,
    GOLD,
    TOTAL,
    ComparisonSpec,
    EvaluationSpec,
    ScorerName,
    StrongestBaselineSpec,
)
from roboalign.metrics.statistics import (
    bootstrap,
    holm,
    pair_accuracy,
    paired_difference,
    spearman,
    wilcoxon,
)
from roboalign.types import Json

Scorer = Callable[[Tensor, Sequence[str], Tensor], Tensor]
"""Maps videos (B, T, 3, H, W) in [0, 1], B instructions and actions (B, T - 1, A) to raw scores (B, 2, D), absolute and
faithful."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class GoldScores:
    """Scores and measures of N clips against the true outcome of their actions; NaN if their source has no states."""

    scores: Scores
    """(N, 2, D), absolute and faithful."""
    outcomes: Scores
    """(N, 4), columns `outcomes.COLUMNS`."""


GoldScorer = Callable[[Sequence[Clip]], GoldScores]
"""Scores clips against the true outcomes of their actions."""

AGREEMENT_DRAWS = 1000
"""Bootstrap draws for rank correlations; fewer than for means, because each draw sorts all clips."""


@dataclass(frozen=True)
class ScoredSet:
    """The scores (N, D) of one clip set by each scorer; row i is of `episodes[i]`, `samples[i]`."""

    name: str
    episodes: tuple[str, ...]
    samples: tuple[int, ...]
    scores: Mapping[str, Scores]
    outcomes: Outcomes | None = None
    """None without a gold scorer."""

    @classmethod
    def concatenate(cls, parts: Sequence["ScoredSet"]) -> "ScoredSet":
        """One set of the rows of all parts, in their order, without scorers whose scores are all NaN, such as gold for
        robots without states."""
        scores = {label: np.concatenate([part.scores[label] for part in parts]) for label in parts[0].scores}
        outcomes = [part.outcomes for part in parts if part.outcomes is not None]
        return cls(
            parts[0].name,
            tuple(episode for part in parts for episode in part.episodes),
            tuple(sample for part in parts for sample in part.samples),
            {label: values for label, values in scores.items() if np.isfinite(values).any()},
            Outcomes.concatenate(outcomes) if outcomes else None,
        )

    def select(self, rows: Sequence[int]) -> "ScoredSet":
        """The scored set of the given rows."""
        return ScoredSet(
            self.name,
            tuple(self.episodes[row] for row in rows),
            tuple(self.samples[row] for row in rows),
            {scorer: values[list(rows)] for scorer, values in self.scores.items()},
            None if self.outcomes is None else self.outcomes.select(rows),
        )

    def by_episode(self, scorer: str) -> dict[str, Scores]:
        """The mean score vector (D,) over the samples of each episode, sorted by episode; NaN scores are left out."""
        groups: dict[str, list[Scores]] = {}
        for episode, values in zip(self.episodes, self.scores[scorer], strict=True):
            if np.isfinite(values).all():
                groups.setdefault(episode, []).append(values)
        return {episode: np.mean(groups[episode], axis=0) for episode in sorted(groups)}


@torch.no_grad()
def score(
    name: str,
    clips: Iterable[Clip],
    scorers: Mapping[ScorerName, Scorer],
    batch: int,
    device: str = "cpu",
    gold: GoldScorer | None = None,
) -> ScoredSet:
    """Score clips by all scorers.

    Args:
        name: Name of the clip set.
        clips: The clips; those of one batch have the same shape.
        scorers: The learned scorers by name.
        batch: Clips scored at once.
        device: Device of the scorers.
        gold: The gold scorer, whose scores may be NaN.

    Raises:
        ValueError: The clip set is empty, or a scorer returns NaN or another number of rows.
    """
    episodes: list[str] = []
    samples: list[int] = []
    parts: dict[str, list[Scores]] = {}
    outcomes: list[Scores] = []

    def add(label: str, values: Scores) -> None:
        for suffix, column in (("", 0), (FAITHFUL, 1)):
            parts.setdefault(label + suffix, []).append(values[:, column])

    def flush(group: list[Clip]) -> None:
        frames = torch.from_numpy(np.stack([clip.frames for clip in group]))
        videos = frames.to(device).permute(0, 1, 4, 2, 3).float() / 255
        instructions = [clip.instruction for clip in group]
        actions = torch.from_numpy(np.stack([clip.actions for clip in group])).to(device)
        for label, scorer in scorers.items():
            values = scorer(videos, instructions, actions).double().cpu().numpy()
            if values.ndim != 3 or len(values) != len(group) or not np.isfinite(values).all():
                raise ValueError(
                    f"the scorer {label} returned invalid scores {values.shape} for {name}, episode "
                    f"{group[0].episode} and following; they must be finite, ({len(group)}, 2, D)"
                )
            add(label, values)
        if gold is not None:
            truth = gold(group)
            add(GOLD, truth.scores)
            outcomes.append(truth.outcomes)
        episodes.extend(clip.episode for clip in group)
        samples.extend(clip.sample for clip in group)

    pending: list[Clip] = []
    for clip in clips:
        if pending and (len(pending) == batch or pending[0].frames.shape != clip.frames.shape):
            flush(pending)
            pending = []
        pending.append(clip)
    if not pending:
        raise ValueError(f"the clip set {name} is empty; run `dvc repro rollout`")
    flush(pending)
    scores = {label: np.concatenate(values) for label, values in parts.items()}
    clip_ids = tuple(episodes), tuple(samples)
    return ScoredSet(name, *clip_ids, scores, Outcomes(*clip_ids, np.concatenate(outcomes)) if outcomes else None)


def best_of_n(candidates: ScoredSet, scorer: str) -> ScoredSet:
    """Select the sample of each episode with the highest total by `scorer`; ties select the first."""
    totals = candidates.scores[scorer].sum(axis=1)
    best: dict[str, int] = {}
    for row, episode in enumerate(candidates.episodes):
        if episode not in best or totals[row] > totals[best[episode]]:
            best[episode] = row
    return candidates.select(sorted(best.values()))


def with_total(values: Scores) -> Scores:
    """Append the sum over the dimensions to scores (N, D) as a last column, (N, D + 1)."""
    return np.concatenate([values, values.sum(axis=1, keepdims=True)], axis=1)


def summary(scored: ScoredSet, dimensions: Sequence[str], spec: EvaluationSpec) -> dict[str, Json]:
    """The mean scores of one clip set: {scorer: {dimension or "total": {mean, low, high, n}}}."""
    result: dict[str, Json] = {}
    for scorer in scored.scores:
        values = with_total(np.stack(list(scored.by_episode(scorer).values())))
        result[scorer] = {
            name: bootstrap(column, spec.draws, spec.seed).json()
            for name, column in zip((*dimensions, TOTAL), values.T, strict=True)
        }
    return result


def difference(
    model: ScoredSet, against: ScoredSet, dimensions: Sequence[str], spec: EvaluationSpec
) -> dict[str, Json] | None:
    """Paired differences of scores, {scorer: {dimension or "total": {mean, low, high, n, wilcoxon_p, holm_p}}}.

    Pairs are the episodes, and scorers, that both clip sets have; None if they share fewer than two episodes or no
    scorer. `holm_p` corrects the dimensions' p-values for their number; the total's p-value is not corrected.
    """
    result: dict[str, Json] = {}
    for scorer in (name for name in model.scores if name in against.scores):
        model_scores, against_scores = model.by_episode(scorer), against.by_episode(scorer)
        shared = [episode for episode in model_scores if episode in against_scores]
        if len(shared) < 2:
            return None
        a = with_total(np.stack([model_scores[episode] for episode in shared]))
        b = with_total(np.stack([against_scores[episode] for episode in shared]))
        entry: dict[str, dict[str, Json]] = {}
        for column, name in enumerate((*dimensions, TOTAL)):
            entry[name] = dict(paired_difference(a[:, column], b[:, column], spec.draws, spec.seed).json())
            entry[name]["wilcoxon_p"] = wilcoxon(a[:, column], b[:, column])
        for name, p in zip(dimensions, holm([entry[name]["wilcoxon_p"] for name in dimensions]), strict=True):
            entry[name]["holm_p"] = p
        result[scorer] = entry
    return result or None


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether `name` matches one of the shell `patterns`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def strongest_baseline(models: Mapping[str, Json], spec: StrongestBaselineSpec) -> str | None:
    """The baseline with the highest mean total by `spec.scorer`; None if no clip set is a baseline."""
    scored = [name for name in sorted(models) if spec.scorer in models[name]]
    names = [name for name in scored if matches(name, spec.among) and not matches(name, spec.leaving_out)]
    return max(names, key=lambda name: float(models[name][spec.scorer][TOTAL]["mean"]), default=None)


def comparisons(
    names: Iterable[str], strongest: str | None, spec: EvaluationSpec, best_of: Sequence[ComparisonSpec] = ()
) -> list[ComparisonSpec]:
    """All comparisons, without duplicates: those that the spec lists, those of best-of-N, and those with the strongest
    baseline.

    Args:
        names: The clip sets.
        strongest: The strongest baseline; None if there is none.
        spec: The listed comparisons, and the models that are compared with the strongest baseline.
        best_of: The comparisons of best-of-N.
    """
    listed = [*spec.comparisons, *spec.aligned, *best_of]
    if strongest is not None:
        models = [name for name in sorted(names) if matches(name, spec.strongest_baseline.models)]
        listed += [ComparisonSpec(model=name, against=strongest) for name in models if name != strongest]
    return list(dict.fromkeys(listed))


def evaluate(
    sets: Mapping[str, ScoredSet],
    dimensions: Sequence[str],
    spec: EvaluationSpec,
    best_of: Sequence[ComparisonSpec] = (),
) -> dict[str, Json]:
    """The content of metrics/evaluation.json without the gates; `best_of` as in `comparisons`.

    {models, strongest_baseline, differences, comparisons_not_measured, outcomes, agreement}; `agreement` is that of
    the learned scorers with gold.
    """
    models = {name: summary(scored, dimensions, spec) for name, scored in sets.items()}
    strongest = strongest_baseline(models, spec.strongest_baseline)
    result: dict[str, Json] = {"models": models, "differences": {}, "comparisons_not_measured": []}
    if strongest is not None:
        result["strongest_baseline"] = strongest
    for pair in comparisons(sets, strongest, spec, best_of):
        if pair.model in sets and pair.against in sets:
            values = difference(sets[pair.model], sets[pair.against], dimensions, spec)
            if values is not None:
                ours, theirs = sets[pair.model].outcomes, sets[pair.against].outcomes
                values["outcomes"] = {} if ours is None or theirs is None else outcome_difference(ours, theirs, spec)
                result["differences"].setdefault(pair.model, {})[pair.against] = values
                continue
        result["comparisons_not_measured"].append(f"{pair.model} against {pair.against}")
    outcomes = {name: outcome_summary(one.outcomes, spec) for name, one in sets.items() if one.outcomes is not None}
    if outcomes:
        result["outcomes"] = outcomes
    with_gold = agreement([scored for name, scored in sets.items() if matches(name, spec.agreement)], spec)
    if with_gold:
        result["agreement"] = with_gold
    return result


def agreement(sets: Sequence[ScoredSet], spec: EvaluationSpec) -> dict[str, Json]:
    """Agreement of the learned scorers' totals with gold over all clips of `sets` that have gold scores.

    {scorer: {gold: {spearman, low, high, pair_accuracy, clips, n}}}; faithful scores are compared with faithful gold.
    `spearman` is over all clips; its interval is bootstrapped over the `n` episodes. `pair_accuracy` is over pairs of
    clips of one episode, which have the same first frame and actions.
    """
    with_gold = [scored for scored in sets if GOLD in scored.scores]
    if not with_gold:
        return {}
    episodes = np.array([episode for scored in with_gold for episode in scored.episodes])
    result: dict[str, Json] = {}
    for scorer in (name for name in with_gold[0].scores if not name.startswith(GOLD)):
        reference = GOLD + (FAITHFUL if scorer.endswith(FAITHFUL) else "")
        gold = np.concatenate([scored.scores[reference].sum(1) for scored in with_gold])
        totals = np.concatenate([scored.scores[scorer].sum(1) for scored in with_gold])
        valid = np.isfinite(gold)
        mean = spearman(totals[valid], gold[valid])
        if mean is None:
            continue
        _, episode_of = np.unique(episodes[valid], return_inverse=True)
        clips = [np.flatnonzero(episode_of == number) for number in range(episode_of.max() + 1)]
        rng, values = np.random.default_rng(spec.seed), []
        for _ in range(AGREEMENT_DRAWS):
            rows = np.concatenate([clips[number] for number in rng.integers(len(clips), size=len(clips))])
            value = spearman(totals[valid][rows], gold[valid][rows])
            values += [] if value is None else [value]
        low, high = np.quantile(values, (0.025, 0.975)) if values else (mean, mean)
        entry = {"spearman": mean, "low": float(low), "high": float(high), "clips": int(valid.sum()), "n": len(clips)}
        within = pair_accuracy(totals[valid], gold[valid], episodes[valid])
        result[scorer] = {reference: entry if within is None else entry | {"pair_accuracy": within}}
    return result


def rows(sets: Iterable[ScoredSet], dimensions: Sequence[str]) -> list[dict[str, object]]:
    """One row for each clip and scorer with finite scores: model, scorer, episode, sample, each dimension, total."""
    return [
        {
            "model": scored.name,
            "scorer": scorer,
            "episode": episode,
            "sample": sample,
            **{name: float(value) for name, value in zip((*dimensions, TOTAL), vector, strict=True)},
        }
        for scored in sets
        for scorer, values in scored.scores.items()
        for episode, sample, vector in zip(scored.episodes, scored.samples, with_total(values), strict=True)
        if np.isfinite(vector).all()
    ]
