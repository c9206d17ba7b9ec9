"""What metrics/bench.json says of the bench."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from roboalign.bench.build import Builder, is_success
from roboalign.bench.pairs import Pair
from roboalign.reward.rubric import Floats, score
from roboalign.reward.spec import RewardSpec
from roboalign.types import Json

BINS = 10
"""Bins of a histogram, from 0 to full marks."""


def counts(pairs: Sequence[Pair], reward: RewardSpec) -> dict[str, Json]:
    """Number of pairs, by source, origin, degradation, split and provenance; a histogram of each dimension's scores."""
    scores = np.array([pair.scores for pair in pairs])
    return {
        "pairs": len(pairs),
        "by_source": dict(Counter(pair.source for pair in pairs)),
        "by_origin": dict(Counter(pair.origin for pair in pairs)),
        "by_degradation": dict(Counter(pair.degradation for pair in pairs if pair.degradation)),
        "by_split": dict(Counter(pair.split for pair in pairs)),
        "by_provenance": dict(Counter(pair.provenance for pair in pairs)),
        "mean_total_by_origin": {
            origin: float(scores[[pair.origin == origin for pair in pairs]].sum(1).mean())
            for origin in dict.fromkeys(pair.origin for pair in pairs)
        },
        "dimensions": {
            dimension.name: {
                "maximum": dimension.maximum,
                "histogram": np.histogram(scores[:, column], BINS, (0, dimension.maximum))[0].tolist(),
            }
            for column, dimension in enumerate(reward.dimensions)
        },
    }


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The probability that a positive scores above a negative, ties counting one half. Neither may be empty."""
    above = np.subtract.outer(np.array(positive), np.array(negative))
    return float((above > 0).mean() + (above == 0).mean() / 2)


def rubric(builder: Builder) -> dict[str, Json]:
    """The rubric over whole recorded episodes, by source.

    The mean total of experts' successes and of failures of any policy, and how well the first dimension with the
    `manipulation` labeller tells the simulator's successes from its failures.
    """
    result: dict[str, Json] = {}
    column = next((k for k, d in enumerate(builder.reward.dimensions) if d.labeller.kind == "manipulation"), None)
    scored: dict[str, list[tuple[bool, bool, Floats]]] = {}
    for info in builder.infos:
        state, limits = builder.states[info.id], builder.limits.get(info.source)
        if state is not None and limits is not None:
            values = score(builder.reward, state, state, limits)
            scored.setdefault(info.source, []).append((is_success(info), bool(info.success), values))
    for source, rows in scored.items():
        experts = [float(values.sum()) for expert, _, values in rows if expert]
        failures = [float(values.sum()) for _, success, values in rows if not success]
        entry: dict[str, Json] = {"experts": len(experts), "failures": len(failures)}
        if experts:
            entry["expert_total"] = float(np.mean(experts))
        if failures:
            entry["failure_total"] = float(np.mean(failures))
        if column is not None and failures and len(failures) < len(rows):
            entry["manipulation_auc"] = auc(
                [values[column] for _, success, values in rows if success],
                [values[column] for _, success, values in rows if not success],
            )
        result[source] = entry
    return result


def measure(builder: Builder, pairs: Sequence[Pair]) -> Mapping[str, Json]:
    """metrics/bench.json."""
    return {**counts(pairs, builder.reward), "rubric": rubric(builder)}
