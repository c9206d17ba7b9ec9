"""metrics/judge.json and metrics/held_out.json: how well a judge agrees with labels and, within groups, with gold."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from roboalign.bench.calibration import agreement, sections
from roboalign.bench.labels import Scores
from roboalign.bench.pairs import Bench
from roboalign.metrics.groups import group_metrics
from roboalign.metrics.statistics import bootstrap, spearman
from roboalign.reward.dimensions import ABSOLUTE, VARIANTS
from roboalign.reward.spec import RewardSpec
from roboalign.types import Json

ScoreFn = Callable[[Tensor, Sequence[str], Tensor], Tensor]
"""Videos (B, T, 3, H, W), instructions and actions (B, T - 1, A) to raw scores (S, B, 2, D)."""


def measure(
    samples: Scores, bench: Bench, rows: Sequence[int], baseline: Scores, held_out: Sequence[str], reward: RewardSpec
) -> dict[str, Json]:
    """The agreement of sampled scores (S, N, 2, D) of the pairs `rows` with their labels.

    `baseline` (2, D) is the training mean. The figures at the top are of the absolute scores; `faithful` has those of
    the faithful ones.
    """
    scores, labels = samples.mean(0), bench.labels[list(rows)]
    result: dict[str, Json] = {}
    for name, keep in sections(bench, rows, held_out).items():
        if keep.any():
            faithful = agreement(scores[keep, 1], labels[keep, 1], baseline[1], reward)
            entry = agreement(scores[keep, 0], labels[keep, 0], baseline[0], reward) | {"faithful": faithful}
            result = result | (entry if name == "" else {name: entry})
    if len(samples) > 1:
        result["stability_sd"] = float(samples[:, :, ABSOLUTE].sum(2).std(0, ddof=1).mean())
        uncertainty = uncertainty_calibration(samples[:, :, ABSOLUTE].sum(2), labels[:, ABSOLUTE].sum(1))
        if uncertainty is not None:
            result["uncertainty_spearman"] = uncertainty
    return result


def measure_groups(
    scores: Scores, bench: Bench, rows: Sequence[int], reference: Scores, reward: RewardSpec
) -> dict[str, Json]:
    """The agreement within groups of scores (N, 2, D) of the pairs `rows` with those of another scorer, `reference`
    (N, 2, D): {variant: {frames: group_metrics}}."""
    place = {row: index for index, row in enumerate(rows)}
    lengths = sorted({bench.pairs[row].stop - bench.pairs[row].start - 1 for row in rows if bench.pairs[row].group})
    result: dict[str, Json] = {}
    for variant, index in VARIANTS.items():
        for frames in lengths:
            split = bench.pairs[rows[0]].split
            groups = [[place[row] for row in group] for group in bench.groups(split=split, frames=frames)]
            result.setdefault(variant, {})[str(frames)] = group_metrics(
                [scores[group, index] for group in groups], [reference[group, index] for group in groups], reward.names
            )
    return result


def copy_context_attack(score: ScoreFn, bench: Bench, rows: Sequence[int], scores: Scores) -> dict[str, Json]:
    """Scores of a video that stands still: {variant: {frozen, rollouts, fooled}}.

    The first frame of each group of rollouts among the pairs `rows`, repeated under the same actions, against the mean
    of the group's `scores` (N, 2, D), as totals; `fooled` is the share of groups in which the frozen clip scores
    higher. Empty without groups.
    """
    place = {row: index for index, row in enumerate(rows)}
    groups = bench.groups(split=bench.pairs[rows[0]].split) if rows else []
    frozen, alive = [], []
    for group in groups:
        frames, actions = bench.clip(group[0])
        still = torch.from_numpy(frames[:1].transpose(0, 3, 1, 2).copy()).expand(len(frames), -1, -1, -1)
        text = bench.pairs[group[0]].instruction
        frozen.append(score(still[None], [text], torch.from_numpy(actions)[None]).mean((0, 1)).sum(-1).cpu().numpy())
        alive.append(scores[[place[row] for row in group]].sum(-1).mean(0))
    if not groups:
        return {}
    still_totals, totals = np.array(frozen, np.float64), np.array(alive)
    return {
        variant: {
            "frozen": bootstrap(still_totals[:, index]).json(),
            "rollouts": bootstrap(totals[:, index]).json(),
            "fooled": float((still_totals[:, index] > totals[:, index]).mean()),
        }
        for variant, index in VARIANTS.items()
        if np.isfinite(still_totals[:, index]).all()
    }


def uncertainty_calibration(samples: Scores, labels: Scores) -> float | None:
    """Spearman's correlation of the spread of sampled totals (S, N) with their absolute error against labels (N,);
    None if undefined."""
    return spearman(samples.std(0, ddof=1), np.abs(samples.mean(0) - labels))
