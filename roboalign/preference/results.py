"""The results of a study of pairs: Bradley-Terry scores, win rates, agreement of raters, attention checks."""

from collections.abc import Sequence
from itertools import combinations

import choix
import krippendorff
import numpy as np
from numpy.typing import NDArray

from roboalign.metrics.statistics import wilson
from roboalign.preference.answers import Answer
from roboalign.preference.sample import TRUTH, ComparedPair, StudyKey
from roboalign.types import Json

MIN_CHECKS = 0.75
"""Minimum fraction of attention checks that a rater must answer by the recording; others are left out (our choice)."""

PRIOR = 0.1
"""Regularisation of the Bradley-Terry model (`alpha` of choix), which keeps scores finite if a model wins always."""

DRAWS = 1000
"""Bootstrap draws over episodes for the intervals of Bradley-Terry scores."""


def results(answers: Sequence[Answer], key: StudyKey, draws: int = DRAWS, seed: int = 0) -> dict[str, Json]:
    """All results; intervals are 95 %.

    - `raters`: answers, attention checks and whether the rater is left out;
    - `bradley_terry`: {model: {score, low, high}}: log-odds, of mean 0 over the models; a tie is half a win for each;
    - `win_rates`: {model: {against: {mean, low, high, n}}}, a tie as half a win, Wilson's intervals;
    - `krippendorff_alpha`: agreement of the raters on {worse, tie, better}, ordinal; absent if fewer than two raters
      compared the same pair, or all choices are the same;
    - `left`: the fraction of choices of the left clip, which shows a bias for a side; Wilson's interval.

    Args:
        answers: The answers.
        key: The key of the study.
        draws: Bootstrap draws.
        seed: Seed of the bootstrap.
    """
    pairs = {pair.id: pair for pair in key.pairs}
    raters = {name: rater_record([a for a in answers if a.rater == name], pairs) for name in _raters(answers)}
    kept = [a for a in answers if not raters[a.rater]["left_out"] and not pairs[a.pair].is_check]
    found: dict[str, Json] = {"answers": len(kept), "raters": raters}
    if not kept:
        return found
    found["bradley_terry"] = bradley_terry(kept, pairs, key.models, draws, seed)
    found["win_rates"] = win_rates(kept, pairs, key.models)
    alpha = agreement(kept)
    found |= {} if alpha is None else {"krippendorff_alpha": alpha}
    sides = [float((a.choice == "a") != a.flipped) for a in kept if a.choice != "tie"]
    return found | ({"left": wilson(sides).json()} if sides else {})


def _raters(answers: Sequence[Answer]) -> list[str]:
    return sorted({answer.rater for answer in answers})


def rater_record(answers: Sequence[Answer], pairs: dict[str, ComparedPair]) -> dict[str, Json]:
    """Number of answers of one rater, attention checks answered and passed, and whether the rater is left out."""
    checks = [answer for answer in answers if pairs[answer.pair].is_check]
    passed = sum(better(answer, pairs[answer.pair]) == TRUTH for answer in checks)
    left_out = bool(checks) and passed < MIN_CHECKS * len(checks)
    return {"answers": len(answers) - len(checks), "checks": len(checks), "passed": passed, "left_out": left_out}


def better(answer: Answer, pair: ComparedPair) -> str | None:
    """The clip set that was chosen; None for a tie."""
    return {"a": pair.a, "b": pair.b, "tie": None}[answer.choice]


def wins(
    answers: Sequence[Answer], pairs: dict[str, ComparedPair], models: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """For each episode, a matrix (M, M) of how often the model of the row beat that of the column; ties are halves."""
    places = {name: number for number, name in enumerate(models)}
    found: dict[str, NDArray[np.float64]] = {}
    for answer in answers:
        pair = pairs[answer.pair]
        matrix = found.setdefault(pair.episode, np.zeros((len(models), len(models))))
        a, b = places[pair.a], places[pair.b]
        share = {"a": 1.0, "b": 0.0, "tie": 0.5}[answer.choice]
        matrix[a, b] += share
        matrix[b, a] += 1 - share
    return found


def bradley_terry(
    answers: Sequence[Answer], pairs: dict[str, ComparedPair], models: Sequence[str], draws: int, seed: int
) -> dict[str, Json]:
    """Bradley-Terry scores with intervals by bootstrap over episodes, which keeps a scene's answers together."""
    matrices = np.stack(list(wins(answers, pairs, models).values()))
    generator = np.random.default_rng(seed)
    scores = choix.ilsr_pairwise_dense(matrices.sum(0), alpha=PRIOR)
    resampled = [
        choix.ilsr_pairwise_dense(matrices[generator.integers(len(matrices), size=len(matrices))].sum(0), alpha=PRIOR)
        for _ in range(draws)
    ]
    low, high = np.quantile(np.stack(resampled), (0.025, 0.975), axis=0)
    return {
        name: {"score": float(scores[n]), "low": float(low[n]), "high": float(high[n])} for n, name in enumerate(models)
    }


def win_rates(
    answers: Sequence[Answer], pairs: dict[str, ComparedPair], models: Sequence[str]
) -> dict[str, dict[str, Json]]:
    """The rate at which each model beats each later one, over the pairs that were compared."""
    found: dict[str, dict[str, Json]] = {}
    for one, other in combinations(models, 2):
        rates: dict[str, list[float]] = {}
        for answer in answers:
            pair = pairs[answer.pair]
            if {pair.a, pair.b} == {one, other}:
                chosen = better(answer, pair)
                rates.setdefault(pair.id, []).append(0.5 if chosen is None else float(chosen == one))
        if rates:
            # Several raters of one pair are not independent, so a pair counts once, by its mean.
            interval = wilson([float(np.mean(values)) for values in rates.values()])
            found.setdefault(one, {})[other] = interval.json()
    return found


def agreement(answers: Sequence[Answer]) -> float | None:
    """Krippendorff's alpha of the choices, ordinal from clip B over a tie to clip A; None if it is undefined."""
    raters, units = _raters(answers), sorted({answer.pair for answer in answers})
    table = np.full((len(raters), len(units)), np.nan)
    for answer in answers:
        value = {"a": 1.0, "tie": 0.0, "b": -1.0}[answer.choice]
        table[raters.index(answer.rater), units.index(answer.pair)] = value
    shared = table[:, (~np.isnan(table)).sum(0) > 1]
    if not shared.size or np.unique(shared[~np.isnan(shared)]).size < 2:
        return None
    return float(krippendorff.alpha(shared, level_of_measurement="ordinal", value_domain=[-1.0, 0.0, 1.0]))


def table(found: dict[str, Json]) -> str:
    """The results as text."""
    lines = [f"{found['answers']} answers of raters that passed the attention checks"]
    for name, record in found["raters"].items():
        verdict = "; left out" if record["left_out"] else ""
        lines.append(
            f"  {name}: {record['answers']} answers, {record['passed']} of {record['checks']} attention checks{verdict}"
        )
    if "bradley_terry" not in found:
        return "\n".join([*lines, "nothing to compare: no answers are left"])
    scores = found["bradley_terry"]
    width = max(map(len, scores))
    lines += ["", "Bradley-Terry scores (log-odds; 95 % interval over episodes)"]
    for name in sorted(scores, key=lambda name: -scores[name]["score"]):
        value = scores[name]
        lines.append(f"  {name:{width}}  {value['score']:+.2f} [{value['low']:+.2f}, {value['high']:+.2f}]")
    lines += ["", "Win rates (a tie is half a win; Wilson's 95 % interval over pairs)"]
    for one, others in found["win_rates"].items():
        for other, rate in others.items():
            interval = f"{rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}], n = {rate['n']}"
            lines.append(f"  {one} beats {other}: {interval}")
    alpha = found.get("krippendorff_alpha")
    lines.append("")
    lines.append(
        "Krippendorff's alpha: "
        + ("undefined: no pair has two raters, or all chose alike" if alpha is None else f"{alpha:.2f}")
    )
    if "left" in found:
        left = found["left"]
        lines.append(f"Left clip chosen: {left['mean']:.2f} [{left['low']:.2f}, {left['high']:.2f}]; .5 is no bias")
    return "\n".join(lines)
