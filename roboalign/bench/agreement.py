"""How well a scorer agrees with scores it was not trained on."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.pairs import Bench, Pair
from roboalign.metrics.statistics import bootstrap, kendall, quadratic_weighted_kappa, spearman
from roboalign.reward.spec import RewardSpec
from roboalign.types import Json

Scores = NDArray[np.float64]


def agreement(scores: Scores, labels: Scores, baseline: Scores, reward: RewardSpec) -> dict[str, Json]:
    """Per dimension and in total: MAE with its interval over pairs, rank correlations, weighted kappa, n; beside
    them the MAE of `baseline` (D,), the same scores for every pair. Correlations of constants are left out."""
    result: dict[str, Json] = {}
    columns = [*((name, scores[:, k], labels[:, k], baseline[k]) for k, name in enumerate(reward.names))]
    columns.append(("total", scores.sum(1), labels.sum(1), baseline.sum()))
    for name, ours, theirs, constant in columns:
        error = bootstrap(np.abs(ours - theirs))
        entry: dict[str, Json] = {
            "mae": error.mean,
            "mae_low": error.low,
            "mae_high": error.high,
            "constant_mae": float(np.abs(constant - theirs).mean()),
        }
        measured = {"spearman": spearman(ours, theirs)}
        if name == "total":
            measured["kendall"] = kendall(ours, theirs)
        else:
            measured["qwk"] = quadratic_weighted_kappa(ours, theirs)
        result[name] = entry | {key: value for key, value in measured.items() if value is not None}
    return {"n": len(scores), **result}


def sections(bench: Bench, rows: Sequence[int], held_out: Sequence[str]) -> Mapping[str, NDArray[np.bool_]]:
    """Which of the pairs `rows` count where: `` for those labelled by the rubric and of known kinds of degradation;
    then those of sources that training has none of, the held-out degradations, and the generated clips, which a probe
    or a rule labelled."""
    taught = {pair.source for pair in bench.pairs if pair.split == "train"}

    def section(pair: Pair) -> str:
        if taught and pair.source not in taught:
            return "held_out_sources"
        if pair.origin in ("generated", "group"):
            return "generated"
        return "held_out_degradations" if pair.degradation in held_out else ""

    names = [section(bench.pairs[row]) for row in rows]
    every = ("", "held_out_sources", "held_out_degradations", "generated")
    return {name: np.array([each == name for each in names], dtype=bool) for name in every}
