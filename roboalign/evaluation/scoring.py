"""Scores of clips: every clip by every scorer, best-of-n picks, means with intervals, paired differences.

The unit of every statistic is the episode. Where an episode was rolled out more than once (sampling seeds), its
scores are averaged first, so that more seeds narrow an interval only by what they tell about an episode.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.evaluation.clips import Clip
from roboalign.evaluation.spec import ComparisonSpec, EvaluationSpec, ScorerName, StrongestBaselineSpec
from roboalign.metrics.statistics import (
    bootstrap,
    holm,
    pair_accuracy,
    paired_difference,
    spearman,
    wilcoxon,
    wilson,
)
from roboalign.types import Json

Scorer = Callable[[Tensor, Sequence[str], Tensor], Tensor]
"""Videos (B, T, 3, H, W) in [0, 1], B instructions and actions (B, T - 1, A) to raw scores (B, 2, D): absolute, then
faithful."""

Scores = NDArray[np.float64]

OUTCOMES = ("shown_success", "true_success", "position_error_cm", "psnr")
"""What is known of a clip beside its scores: whether its last frame shows success and whether the true outcome of the
same actions has it (probabilities), the mean distance of gripper and object from where the true outcome has them, and
the PSNR in dB against the true frames."""


@dataclass(frozen=True)
class GoldScores:
    """What the true outcome of the same actions says of N clips; NaN if nothing is known of their source."""

    scores: Scores
    """(N, 2, D): absolute, then faithful."""
    outcomes: Scores
    """(N, 4), columns OUTCOMES."""


GoldScorer = Callable[[Sequence[Clip]], GoldScores]
"""Clips to what the true outcomes of their actions say."""

FAITHFUL = "_faithful"
"""Ends the name of a scorer's faithful scores: `gold_faithful`."""

GOLD = "gold"
"""The scorer that reads the simulator's state through the probe."""

AGREEMENT_DRAWS = 1000
"""Bootstrap draws of the intervals of rank correlations, each of which sorts all clips."""

TOTAL = "total"
"""The key of the sum over the dimensions, beside their names."""


@dataclass(frozen=True)
class ScoredSet:
    """The scores of one clip set: row i belongs to `episodes[i]`, `samples[i]`; each scorer has an (N, D) array."""

    name: str
    episodes: tuple[str, ...]
    samples: tuple[int, ...]
    scores: Mapping[str, Scores]
    outcomes: Scores | None = None
    """(N, 4), columns OUTCOMES; None if no scorer knows the true outcome."""

    def rows(self, keep: Sequence[int]) -> "ScoredSet":
        """The scored set of the rows `keep`."""
        return ScoredSet(
            self.name,
            tuple(self.episodes[row] for row in keep),
            tuple(self.samples[row] for row in keep),
            {scorer: values[list(keep)] for scorer, values in self.scores.items()},
            None if self.outcomes is None else self.outcomes[list(keep)],
        )

    def outcome_by_episode(self, name: str) -> dict[str, float]:
        """The mean of an outcome of each episode over its samples, in order of the episodes' names; without those of
        which nothing is known."""
        column, groups = OUTCOMES.index(name), dict[str, list[float]]()
        if self.outcomes is not None:
            for episode, value in zip(self.episodes, self.outcomes[:, column], strict=True):
                if np.isfinite(value):
                    groups.setdefault(episode, []).append(float(value))
        return {episode: float(np.mean(groups[episode])) for episode in sorted(groups)}

    def by_episode(self, scorer: str) -> dict[str, Scores]:
        """The mean score vector (D,) of each episode over its samples, in order of the episodes' names; without the
        episodes of which the scorer knows nothing."""
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
    """Score `clips` by every scorer, and by gold, `batch` at a time; clips of different lengths never share a batch.

    Gold is left out where it knows nothing of any clip. Raises ValueError where a scorer answers with NaN or with
    another number of rows.
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
                    f"the {label} gave no valid scores for {name}, episode {group[0].episode} and following"
                )
            add(label, values)
        if gold is not None:
            known = gold(group)
            add(GOLD, known.scores)
            outcomes.append(known.outcomes)
        episodes.extend(clip.episode for clip in group)
        samples.extend(clip.sample for clip in group)

    waiting: list[Clip] = []
    for clip in clips:
        if waiting and (len(waiting) == batch or waiting[0].frames.shape != clip.frames.shape):
            flush(waiting)
            waiting = []
        waiting.append(clip)
    if not waiting:
        raise ValueError(f"the clip set {name} is empty")
    flush(waiting)
    scores = {label: np.concatenate(values) for label, values in parts.items()}
    known_scores = {label: values for label, values in scores.items() if np.isfinite(values).any()}
    return ScoredSet(
        name, tuple(episodes), tuple(samples), known_scores, np.concatenate(outcomes) if outcomes else None
    )


def best_of_n(candidates: ScoredSet, scorer: str) -> ScoredSet:
    """Of each episode's samples the one with the highest total by `scorer`, the first of equals."""
    totals = candidates.scores[scorer].sum(axis=1)
    best: dict[str, int] = {}
    for row, episode in enumerate(candidates.episodes):
        if episode not in best or totals[row] > totals[best[episode]]:
            best[episode] = row
    return candidates.rows(sorted(best.values()))


def with_total(values: Scores) -> Scores:
    """(N, D) to (N, D + 1): the sum over the dimensions as a last column."""
    return np.concatenate([values, values.sum(axis=1, keepdims=True)], axis=1)


def summary(scored: ScoredSet, dimensions: Sequence[str], spec: EvaluationSpec) -> dict[str, Json]:
    """{scorer: {dimension or "total": {mean, low, high, n}}} of one clip set."""
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
    """Paired differences, {scorer: {dimension or "total": {mean, low, high, n, wilcoxon_p, holm_p}}}.

    Paired over the episodes that both have, by the scorers that both have; None where they share fewer than two
    episodes or no scorer. The total's Wilcoxon p stands alone; `holm_p` corrects the dimensions' for their number.
    """
    result: dict[str, Json] = {}
    for scorer in (name for name in model.scores if name in against.scores):
        ours, theirs = model.by_episode(scorer), against.by_episode(scorer)
        shared = [episode for episode in ours if episode in theirs]
        if len(shared) < 2:
            return None
        a = with_total(np.stack([ours[episode] for episode in shared]))
        b = with_total(np.stack([theirs[episode] for episode in shared]))
        entry: dict[str, dict[str, Json]] = {}
        for column, name in enumerate((*dimensions, TOTAL)):
            entry[name] = dict(paired_difference(a[:, column], b[:, column], spec.draws, spec.seed).json())
            entry[name]["wilcoxon_p"] = wilcoxon(a[:, column], b[:, column])
        for name, p in zip(dimensions, holm([entry[name]["wilcoxon_p"] for name in dimensions]), strict=True):
            entry[name]["holm_p"] = p
        result[scorer] = entry
    return result or None


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether `name` fits one of the shell `patterns`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def strongest_baseline(models: Mapping[str, Json], spec: StrongestBaselineSpec) -> str | None:
    """The baseline with the highest mean total by `spec.scorer`; None where no clip set competes."""
    scored = [name for name in sorted(models) if spec.scorer in models[name]]
    names = [name for name in scored if matches(name, spec.among) and not matches(name, spec.leaving_out)]
    return max(names, key=lambda name: float(models[name][spec.scorer][TOTAL]["mean"]), default=None)


def comparisons(names: Iterable[str], strongest: str | None, spec: EvaluationSpec) -> list[ComparisonSpec]:
    """Every comparison to make among the clip sets `names`, each once: the listed ones, the strongest baseline's."""
    listed = [*spec.comparisons, *spec.aligned]
    if strongest is not None:
        models = [name for name in sorted(names) if matches(name, spec.strongest_baseline.models)]
        listed += [ComparisonSpec(model=name, against=strongest) for name in models if name != strongest]
    return list(dict.fromkeys(listed))


def evaluate(sets: Mapping[str, ScoredSet], dimensions: Sequence[str], spec: EvaluationSpec) -> dict[str, Json]:
    """metrics/evaluation.json but for the gates: models, strongest_baseline, differences, comparisons not made, and how
    the learned scorers agree with gold."""
    models = {name: summary(scored, dimensions, spec) for name, scored in sets.items()}
    strongest = strongest_baseline(models, spec.strongest_baseline)
    result: dict[str, Json] = {"models": models, "differences": {}, "comparisons_not_measured": []}
    if strongest is not None:
        result["strongest_baseline"] = strongest
    for pair in comparisons(sets, strongest, spec):
        if pair.model in sets and pair.against in sets:
            values = difference(sets[pair.model], sets[pair.against], dimensions, spec)
            if values is not None:
                values["outcomes"] = outcome_difference(sets[pair.model], sets[pair.against], spec)
                result["differences"].setdefault(pair.model, {})[pair.against] = values
                continue
        result["comparisons_not_measured"].append(f"{pair.model} against {pair.against}")
    outcomes = {name: outcome_summary(scored, spec) for name, scored in sets.items() if scored.outcomes is not None}
    if outcomes:
        result["outcomes"] = outcomes
    agreed = agreement([scored for name, scored in sets.items() if matches(name, spec.agreement)], spec)
    if agreed:
        result["agreement"] = agreed
    return result


def outcome_summary(scored: ScoredSet, spec: EvaluationSpec) -> dict[str, Json]:
    """{position_error_cm, psnr: {mean, low, high, n}} of one clip set, and the rates of false and of missed success
    with Wilson intervals: how often the last frame shows success although the true outcome fails, and the reverse."""
    result: dict[str, Json] = {}
    for name in ("position_error_cm", "psnr"):
        values = list(scored.outcome_by_episode(name).values())
        if values:
            result[name] = bootstrap(values, spec.draws, spec.seed).json()
    rates = {"false_success": _shown_against_truth(scored, False), "missed_success": _shown_against_truth(scored, True)}
    return result | {name: wilson(list(values.values())).json() for name, values in rates.items() if values}


def _shown_against_truth(scored: ScoredSet, truth: bool) -> dict[str, float]:
    """By episode whose true outcome is `truth`, the share of its clips whose last frame shows the opposite."""
    shown, true, groups = OUTCOMES.index("shown_success"), OUTCOMES.index("true_success"), dict[str, list[float]]()
    if scored.outcomes is not None:
        for episode, row in zip(scored.episodes, scored.outcomes, strict=True):
            if np.isfinite(row[true]) and bool(row[true] > 0.5) == truth:
                groups.setdefault(episode, []).append(float((row[shown] > 0.5) != truth))
    return {episode: float(np.mean(groups[episode])) for episode in sorted(groups)}


def outcome_difference(model: ScoredSet, against: ScoredSet, spec: EvaluationSpec) -> dict[str, Json]:
    """Paired differences {position_error_cm, psnr, false_success, missed_success: {mean, low, high, n}} over the
    episodes that both clip sets know; without what fewer than two share."""
    pairs = {name: (model.outcome_by_episode(name), against.outcome_by_episode(name)) for name in OUTCOMES[2:]}
    pairs |= {
        name: (_shown_against_truth(model, truth), _shown_against_truth(against, truth))
        for name, truth in (("false_success", False), ("missed_success", True))
    }
    result: dict[str, Json] = {}
    for name, (ours, theirs) in pairs.items():
        shared = [episode for episode in ours if episode in theirs]
        if len(shared) > 1:
            a, b = [ours[episode] for episode in shared], [theirs[episode] for episode in shared]
            result[name] = paired_difference(a, b, spec.draws, spec.seed).json()
    return result


def agreement(sets: Sequence[ScoredSet], spec: EvaluationSpec) -> dict[str, Json]:
    """How the learned scorers' totals agree with gold's over all clips of `sets` that gold knows, between prompts:
    {scorer: {gold: {spearman, low, high, pair_accuracy, clips, n}}}; faithful scores with gold's faithful ones.

    The interval is over `n` episodes: clips of one episode are drawn together. `pair_accuracy` is over pairs of clips
    of one episode: what one first frame and one list of actions became.
    """
    known = [scored for scored in sets if GOLD in scored.scores]
    if not known:
        return {}
    episodes = np.array([episode for scored in known for episode in scored.episodes])
    result: dict[str, Json] = {}
    for scorer in (name for name in known[0].scores if not name.startswith(GOLD)):
        reference = GOLD + (FAITHFUL if scorer.endswith(FAITHFUL) else "")
        gold = np.concatenate([scored.scores[reference].sum(1) for scored in known])
        totals = np.concatenate([scored.scores[scorer].sum(1) for scored in known])
        keep = np.isfinite(gold)
        mean = spearman(totals[keep], gold[keep])
        if mean is None:
            continue
        _, of = np.unique(episodes[keep], return_inverse=True)
        members = [np.flatnonzero(of == number) for number in range(of.max() + 1)]
        rng, drawn = np.random.default_rng(spec.seed), []
        for _ in range(AGREEMENT_DRAWS):
            taken = np.concatenate([members[number] for number in rng.integers(len(members), size=len(members))])
            value = spearman(totals[keep][taken], gold[keep][taken])
            drawn += [] if value is None else [value]
        low, high = np.quantile(drawn, (0.025, 0.975)) if drawn else (mean, mean)
        entry = {"spearman": mean, "low": float(low), "high": float(high), "clips": int(keep.sum()), "n": len(members)}
        within = pair_accuracy(totals[keep], gold[keep], episodes[keep])
        result[scorer] = {reference: entry if within is None else entry | {"pair_accuracy": within}}
    return result


def rows(sets: Iterable[ScoredSet], dimensions: Sequence[str]) -> list[dict[str, object]]:
    """One row a clip and scorer that knows it: model, scorer, episode, sample, each dimension, total."""
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
