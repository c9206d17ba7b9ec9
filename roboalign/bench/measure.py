"""metrics/bench.json: counts of pairs, the rubric on recorded episodes, and the measured effects of degradations.

The labels of degraded clips fall only in declared dimensions. Here the rubric rates all dimensions of the degraded
states, to test whether a degradation lowers what it declares, and nothing else beyond its tolerance.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from roboalign.bench.labeller import PairLabeller
from roboalign.bench.labels import SUCCESS, RecordedStates, Scores, label_by_states, label_recorded, subtract_losses
from roboalign.bench.pairs import Pair
from roboalign.bench.recipes import make_rng
from roboalign.bench.spec import BenchSpec, DegradationSpec
from roboalign.metrics.statistics import Interval, bootstrap
from roboalign.reward.rubric import Limits, score
from roboalign.reward.spec import RewardSpec
from roboalign.types import Float32, Json

BINS = 10
"""Bins of a histogram, from 0 to the maximum score."""

DRAWS = 2000
"""Bootstrap draws of an interval."""


@dataclass(frozen=True, slots=True)
class DegradationExample:
    """A recorded clip that is degraded to measure the effects."""

    source: str
    task: str
    recorded: RecordedStates


@dataclass(frozen=True, slots=True)
class DegradationEffect:
    """The change of one dimension by one degradation, in shares of the maximum score."""

    degradation: str
    dimension: str
    change: Interval
    """Mean over the clips, with its interval."""
    declared: bool
    """Whether the degradation may lower this dimension."""
    tolerance: float
    """Mean loss that is tolerated otherwise."""
    measured: bool
    """Whether the rubric measured the change on the states; otherwise it is the declared loss itself."""

    @property
    def holds(self) -> bool:
        """Whether a declared dimension falls, with the whole interval below 0, or another stays within tolerance."""
        return self.change.high < 0 if self.declared else self.change.mean >= -self.tolerance


def measure(labeller: PairLabeller, pairs: Sequence[Pair], effects: Sequence[DegradationEffect]) -> Mapping[str, Json]:
    """The content of metrics/bench.json; `effects` are those of `degradation_effects`."""
    by_degradation: dict[str, Json] = {}
    for effect in effects:
        entry = effect.change.json() | {"declared": effect.declared, "measured": effect.measured}
        by_degradation.setdefault(effect.degradation, {})[effect.dimension] = entry | {"holds": effect.holds}
    result = {**count_pairs(pairs, labeller.reward), "rubric": measure_rubric(labeller), "effects": by_degradation}
    if labeller.probe_calibrations:
        result["probe"] = {
            source: {
                "clips": calibration.clips,
                "seen_share": calibration.explained_variance,
                "asked": source in labeller.trusted_calibrations,
                "slack": dict(zip(labeller.reward.names, map(float, calibration.slack), strict=True)),
            }
            for source, calibration in labeller.probe_calibrations.items()
        }
    return result


def count_pairs(pairs: Sequence[Pair], reward: RewardSpec) -> dict[str, Json]:
    """Numbers of pairs by source, origin, degradation, split and provenance, and a histogram of each dimension."""
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


def measure_rubric(labeller: PairLabeller) -> dict[str, Json]:
    """`rubric_metrics` of all recorded episodes, by source."""
    episodes: dict[str, list[tuple[Float32, bool]]] = {}
    for info in labeller.infos:
        state = labeller.states[info.id]
        if state is not None and info.source in labeller.limits:
            episodes.setdefault(info.source, []).append((state, info.policy == "expert"))
    return {source: rubric_metrics(labeller.reward, rows, labeller.limits[source]) for source, rows in episodes.items()}


def rubric_metrics(reward: RewardSpec, episodes: Sequence[tuple[Float32, bool]], limits: Limits) -> dict[str, Json]:
    """The rubric on whole episodes of one source: states (T, 14), and whether the policy is an expert.

    Mean totals of experts, of successful experts, and of failures of any policy; and the AUC with which the first
    `manipulation` dimension separates the simulator's successes from its failures. The rubric reads the simulator's
    success flag, so `manipulation_auc_without_verdict` measures the AUC of positions alone.
    """
    column = next((k for k, d in enumerate(reward.dimensions.values()) if d.labeller.kind == "manipulation"), None)
    totals: dict[str, list[float]] = {"expert": [], "expert_success": [], "failure": []}
    manipulation: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for state, expert in episodes:
        without_flag = state.copy()
        without_flag[:, SUCCESS] = 0
        success = bool(state[-1, SUCCESS] > 0.5)
        scores = score(reward, state, state, limits)
        if expert:
            totals["expert"].append(float(scores.sum()))
        if expert and success:
            totals["expert_success"].append(float(scores.sum()))
        if not success:
            totals["failure"].append(float(scores.sum()))
        if column is not None:
            blind = score(reward, without_flag, without_flag, limits)
            manipulation[success].append((float(scores[column]), float(blind[column])))
    result: dict[str, Json] = {
        "experts": len(totals["expert"]),
        "expert_successes": len(totals["expert_success"]),
        "failures": len(totals["failure"]),
    }
    result |= {f"{name}_total": float(np.mean(values)) for name, values in totals.items() if values}
    if manipulation[True] and manipulation[False]:
        for name, index in (("manipulation_auc", 0), ("manipulation_auc_without_verdict", 1)):
            successes, failures = ([row[index] for row in manipulation[success]] for success in (True, False))
            result[name] = pairwise_auc(successes, failures)
    return result


def pairwise_auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The probability that a positive exceeds a negative, ties counting one half. Neither may be empty."""
    difference = np.asarray(np.subtract.outer(np.array(positive), np.array(negative)))
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def degradation_effects(labeller: PairLabeller) -> list[DegradationEffect]:
    """The effects of every degradation on the whole training episodes that have states."""
    examples = [
        DegradationExample(info.source, info.task, labeller.recorded_states(info))
        for info in labeller.infos
        if info.split == "train" and labeller.states[info.id] is not None
    ]
    return measure_effects(labeller.spec, labeller.reward, examples, labeller.limits)


def measure_effects(
    spec: BenchSpec, reward: RewardSpec, examples: Sequence[DegradationExample], limits: Mapping[str, Limits]
) -> list[DegradationEffect]:
    """The effect of every degradation on every dimension, each example degraded once by each at a random severity.

    Examples of sources without limits are left out, and so are degradations that apply to no example.
    """
    usable = [each for each in examples if each.source in limits and each.recorded.state is not None]
    result: list[DegradationEffect] = []
    for degradation in spec.degradations:
        changes: list[Scores] = []
        measured = False
        for number, example in enumerate(usable):
            recorded = example.recorded
            if degradation.kind in ("splice", "swapped_actions"):
                partner = _partner(usable, number, degradation)
                if partner is None:
                    continue
                recorded = replace(recorded, other_state=partner.recorded.state)
            if degradation.kind == "object_teleported" and (recorded.keypoints is None or recorded.camera is None):
                continue
            rng = make_rng(spec.seed, "effects", degradation.kind, number)
            severity = float(rng.uniform(degradation.min_severity, degradation.max_severity))
            seed, source_limits = int(rng.integers(2**31)), limits[example.source]
            before = label_recorded(reward, recorded.state, source_limits).scores
            label = label_by_states(reward, degradation, severity, seed, recorded, source_limits)
            lowered = subtract_losses(before, reward, degradation.lowers, severity)
            after = lowered if label is None else label.scores
            changes.append(np.asarray((after - before) / np.array(reward.max_scores)))
            measured |= label is not None
        for column, (name, dimension) in enumerate(reward.dimensions.items() if changes else ()):
            result.append(
                DegradationEffect(
                    degradation=degradation.kind,
                    dimension=name,
                    change=bootstrap([change[column] for change in changes], DRAWS),
                    declared=dimension.labeller.kind in degradation.lowers,
                    tolerance=degradation.may_lower.get(dimension.labeller.kind, degradation.tolerance),
                    measured=measured,
                )
            )
    return result


def _partner(
    examples: Sequence[DegradationExample], number: int, degradation: DegradationSpec
) -> DegradationExample | None:
    """The next example that is at least as long and of the same source, for swapped actions also of the same task."""
    own = examples[number]
    for step in range(1, len(examples)):
        other = examples[(number + step) % len(examples)]
        state, other_state = own.recorded.state, other.recorded.state
        if state is None or other_state is None or len(other_state) < len(state) or other.source != own.source:
            continue
        if degradation.kind != "swapped_actions" or other.task == own.task:
            return other
    return None


def effects_table(effects: Sequence[DegradationEffect], dimensions: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table: one row a degradation, one column a dimension.

    A cell is the mean change in per cent of the maximum score with its interval. Declared dimensions are bold, with ✓
    if the whole interval is below 0; others show the tolerance, with ✓ if the mean is within it.
    """
    head = ["degradation", "clips", "by", *(name.replace("_", " ") for name in dimensions)]
    rows: list[list[str]] = []
    for kind in dict.fromkeys(effect.degradation for effect in effects):
        by_dimension = {effect.dimension: effect for effect in effects if effect.degradation == kind}
        first = next(iter(by_dimension.values()))
        cells = [_effect_cell(by_dimension[name]) for name in dimensions]
        rows.append([kind, str(first.change.n), "states" if first.measured else "declaration", *cells])
    return head, rows


def _effect_cell(effect: DegradationEffect) -> str:
    low, mean, high = (100 * value + 0.0 for value in (effect.change.low, effect.change.mean, effect.change.high))
    if not effect.measured:
        return f"{mean:.0f} (declared)" if effect.declared else "none"
    mark = "✓" if effect.holds else "✗"
    text = f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    return f"**{text}** {mark}" if effect.declared else f"{text} ≥ {-100 * effect.tolerance:.0f} {mark}"
