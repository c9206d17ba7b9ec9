"""metrics/judge.json: how well the judge agrees with the test pairs' labels."""

from collections.abc import Sequence

from roboalign.bench.agreement import Scores, agreement, sections
from roboalign.bench.pairs import Bench
from roboalign.judge.model import Judge
from roboalign.types import Json


def measure(
    judge: Judge, bench: Bench, rows: Sequence[int], samples: Scores, baseline: Scores, held_out: Sequence[str]
) -> dict[str, Json]:
    """metrics/judge.json of sampled scores (S, N, D) of the pairs `rows`; `baseline` (D,) is the training mean."""
    scores, labels = samples.mean(0), bench.scores[list(rows)]
    result: dict[str, Json] = {}
    for name, keep in sections(bench, rows, held_out).items():
        if keep.any():
            entry = agreement(scores[keep], labels[keep], baseline, judge.reward)
            result = result | (entry if name == "" else {name: entry})
    if len(samples) > 1:
        result["stability_sd"] = float(samples.sum(2).std(0, ddof=1).mean())
    return result
