"""metrics/student.json: how well the student agrees with its judge, and with the labels."""

import time
from collections.abc import Callable, Sequence

from torch import Tensor

from roboalign.bench.calibration import agreement, sections
from roboalign.bench.dataset import clips_of
from roboalign.bench.labels import Scores
from roboalign.bench.pairs import Bench
from roboalign.reward.spec import RewardSpec
from roboalign.types import Json


def measure(
    scores: Scores, judge_scores: Scores, baseline: Scores, bench: Bench, rows: Sequence[int], reward: RewardSpec
) -> dict[str, Json]:
    """Measure the agreement of a student with the judge that it was distilled from, and with the labels.

    The figures at the top are of the absolute scores, `faithful` has those of the faithful ones, `labels` the agreement
    with the labels of pairs that the rubric labelled.

    Args:
        scores: The student's raw scores (N, 2, D) of the pairs `rows`.
        judge_scores: The judge's raw scores (N, 2, D) of the same pairs.
        baseline: The judge's mean raw scores (2, D) over training, as the constant prediction to compare with.
        bench: The bench that the pairs belong to.
        rows: Numbers of the pairs in the bench.
        reward: The reward, whose dimensions are scored.
    """
    result = agreement(scores[:, 0], judge_scores[:, 0], baseline[0], reward)
    result["faithful"] = agreement(scores[:, 1], judge_scores[:, 1], baseline[1], reward)
    keep, labels = sections(bench, rows, ())[""], bench.labels[list(rows)]
    if keep.any():
        result["labels"] = agreement(scores[keep, 0], labels[keep, 0], labels[keep, 0].mean(0), reward)
    return result


def videos_per_second(
    score: Callable[[Tensor, Sequence[str], Tensor], Tensor], bench: Bench, rows: Sequence[int]
) -> float:
    """How many of the pairs `rows` a scorer scores in a second, clips in memory, after a first call."""
    clips = [
        (videos, [bench.pairs[rows[place]].instruction for place in places], actions)
        for places, videos, actions in clips_of(bench, rows)
    ]
    score(*clips[0])
    started = time.perf_counter()
    for each in clips:
        score(*each)
    return len(rows) / (time.perf_counter() - started)
