"""metrics/student.json: how well the student agrees with its teacher, and with the labels."""

from collections.abc import Sequence

from roboalign.bench.agreement import Scores, agreement, sections
from roboalign.bench.pairs import Bench
from roboalign.evaluation.statistics import pair_accuracy
from roboalign.reward.spec import RewardSpec
from roboalign.types import Json


def measure(
    scores: Scores, teacher: Scores, baseline: Scores, bench: Bench, rows: Sequence[int], reward: RewardSpec
) -> dict[str, Json]:
    """The student's raw `scores` (N, D) of the pairs `rows` against its teacher's; `labels` has the same against the
    labels of pairs that the rubric labelled.

    `within_group_accuracy` is the share of pairs of clips of one episode that the student's total orders as the
    teacher's does: what a group-normalised advantage sees. `baseline` (D,) is the teacher's mean over training.
    """
    result: dict[str, Json] = agreement(scores, teacher, baseline, reward)
    labels = bench.scores[list(rows)]
    keep = sections(bench, rows, ())[""]
    if keep.any():
        result["labels"] = agreement(scores[keep], labels[keep], labels[keep].mean(0), reward)
    episodes = [bench.pairs[row].episode for row in rows]
    for name, gold in (("within_group_accuracy", teacher), ("within_group_accuracy_labels", labels)):
        accuracy = pair_accuracy(scores.sum(1), gold.sum(1), episodes)
        if accuracy is not None:
            result[name] = accuracy
    return result
