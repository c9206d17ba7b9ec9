"""What metrics/bench.json says of the bench."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from roboalign.bench.build import Builder
from roboalign.bench.effects import Effect, Example, effects
from roboalign.bench.pairs import Pair
from roboalign.reward.rubric import Floats, Limits, score
from roboalign.reward.spec import RewardSpec
from roboalign.types import STATE_NAMES, Float32, Json

BINS = 10
"""Bins of a histogram, from 0 to the maximum."""


def counts(pairs: Sequence[Pair], reward: RewardSpec) -> dict[str, Json]:
    """Number of pairs, by source, origin, degradation, split and provenance; a histogram of each dimension's scores."""
    scores = np.array([pair.scores for pair in pairs])
    return {
        "pairs": len(pairs),
        "different": len({pair.id for pair in pairs}),
        "hidden_labels": sum(not pair.judged for pair in pairs),
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
            name: {
                "maximum": dimension.max_score,
                "histogram": np.histogram(scores[:, column], BINS, (0, dimension.max_score))[0].tolist(),
            }
            for column, (name, dimension) in enumerate(reward.dimensions.items())
        },
    }


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The probability that a positive scores above a negative, ties counting one half. Neither may be empty."""
    above = np.asarray(np.subtract.outer(np.array(positive), np.array(negative)))
    return float((above > 0).mean() + (above == 0).mean() / 2)


def without_verdict(state: Float32) -> Float32:
    """States (T, 14) without the simulator's verdict of success."""
    result = state.copy()
    result[:, STATE_NAMES.index("success")] = 0
    return result


def rubric_on(reward: RewardSpec, episodes: Sequence[tuple[Float32, bool]], limits: Limits) -> dict[str, Json]:
    """The rubric over whole episodes of one source: states (T, 14), and whether they are an expert's.

    The mean totals of experts (of all, and of those that succeed) and of failures of any policy, and how well the first
    dimension with the `manipulation` labeller tells the simulator's successes from its failures: the rubric reads the
    simulator's verdict, so `manipulation_auc_without_verdict` says what positions alone can tell.
    """
    column = next((k for k, d in enumerate(reward.dimensions.values()) if d.labeller.kind == "manipulation"), None)
    rows: list[tuple[bool, bool, Floats, Floats]] = []
    for state, expert in episodes:
        blind = without_verdict(state)
        success = bool(state[-1, STATE_NAMES.index("success")] > 0.5)
        rows.append((expert, success, score(reward, state, state, limits), score(reward, blind, blind, limits)))
    groups = {
        "expert": [float(values.sum()) for expert, _, values, _ in rows if expert],
        "expert_success": [float(values.sum()) for expert, success, values, _ in rows if expert and success],
        "failure": [float(values.sum()) for _, success, values, _ in rows if not success],
    }
    entry: dict[str, Json] = {
        "experts": len(groups["expert"]),
        "expert_successes": len(groups["expert_success"]),
        "failures": len(groups["failure"]),
    }
    entry |= {f"{name}_total": float(np.mean(totals)) for name, totals in groups.items() if totals}
    if column is not None and groups["failure"] and len(groups["failure"]) < len(rows):
        seen = [(success, float(with_it[column]), float(without[column])) for _, success, with_it, without in rows]
        yes, no = ([row for row in seen if row[0] == wanted] for wanted in (True, False))
        entry["manipulation_auc"] = auc([row[1] for row in yes], [row[1] for row in no])
        entry["manipulation_auc_without_verdict"] = auc([row[2] for row in yes], [row[2] for row in no])
    return entry


def rubric(builder: Builder) -> dict[str, Json]:
    """`rubric_on` all recorded episodes, by source."""
    recorded: dict[str, list[tuple[Float32, bool]]] = {}
    for info in builder.infos:
        state = builder.states[info.id]
        if state is not None and info.source in builder.limits:
            recorded.setdefault(info.source, []).append((state, info.policy == "expert"))
    return {source: rubric_on(builder.reward, rows, builder.limits[source]) for source, rows in recorded.items()}


def degradation_effects(builder: Builder) -> list[Effect]:
    """The effects of every degradation on the whole training episodes that have states."""
    examples = [
        Example(info.source, info.task, builder.whole_track(info))
        for info in builder.infos
        if info.split == "train" and builder.states[info.id] is not None
    ]
    return effects(builder.spec, builder.reward, examples, builder.limits)


def effects_json(found: Sequence[Effect]) -> dict[str, Json]:
    """The mean change of each dimension by each degradation, as a share of the maximum score, with its interval; and
    whether what the spec declares of it holds."""
    result: dict[str, Json] = {}
    for effect in found:
        entry = effect.change.json() | {"declared": effect.declared, "measured": effect.measured}
        result.setdefault(effect.degradation, {})[effect.dimension] = entry | {"holds": effect.holds}
    return result


def measure(builder: Builder, pairs: Sequence[Pair], found: Sequence[Effect]) -> Mapping[str, Json]:
    """metrics/bench.json; `found` are the effects of the degradations."""
    result = {**counts(pairs, builder.reward), "rubric": rubric(builder), "effects": effects_json(found)}
    if builder.looks:
        names = builder.reward.names
        result["probe"] = {
            source: {
                "clips": own.clips,
                "seen_share": own.share,
                "asked": source in builder.sights,
                "slack": dict(zip(names, map(float, own.slack), strict=True)),
            }
            for source, own in builder.looks.items()
        }
    return result
