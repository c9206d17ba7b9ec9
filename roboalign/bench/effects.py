"""What each degradation takes from each dimension, by the rubric over the states that the spoilt clips show.

The labels of the bench let only the declared dimensions fall. Here the rubric is asked about all of them: does a
degradation lower what it should, and nothing else beyond its tolerance?
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.labels import Scores, Track, label_by_states, label_recorded, lower
from roboalign.bench.recipes import generator
from roboalign.bench.spec import BenchSpec, DegradationSpec
from roboalign.metrics.statistics import Interval, bootstrap
from roboalign.reward.rubric import Limits
from roboalign.reward.spec import RewardSpec

DRAWS = 2000
"""Bootstrap draws of an interval."""


@dataclass(frozen=True, slots=True)
class Example:
    """A recorded clip to be spoilt: its source, its task, and its records, the states among them."""

    source: str
    task: str
    track: Track


@dataclass(frozen=True, slots=True)
class Effect:
    """What one degradation changes in one dimension, in shares of the maximum score."""

    degradation: str
    dimension: str
    change: Interval
    """Mean over the clips, with its interval."""
    declared: bool
    """Whether the degradation may lower this dimension."""
    tolerance: float
    """Mean fall that is allowed where it may not."""
    measured: bool
    """Whether the rubric measured the change on the states; otherwise it is the declared loss itself."""

    @property
    def holds(self) -> bool:
        """Whether a declared dimension falls, its whole interval below 0, and another keeps within the tolerance."""
        return self.change.high < 0 if self.declared else self.change.mean >= -self.tolerance


def _other(examples: Sequence[Example], number: int, degradation: DegradationSpec) -> Example | None:
    """The next example of the same source, and for swapped actions of the same task, that is as long."""
    own = examples[number]
    for step in range(1, len(examples)):
        other = examples[(number + step) % len(examples)]
        states = own.track.state, other.track.state
        if states[0] is None or states[1] is None or len(states[1]) < len(states[0]) or other.source != own.source:
            continue
        if degradation.kind != "swapped_actions" or other.task == own.task:
            return other
    return None


def change(
    reward: RewardSpec, degradation: DegradationSpec, severity: float, seed: int, track: Track, limits: Limits
) -> tuple[Scores, bool]:
    """The change of each dimension (D,) in shares of the maximum score, and whether the rubric measured it."""
    before = label_recorded(reward, track.state, limits).scores
    after = label_by_states(reward, degradation, severity, seed, track, limits)
    spoilt = lower(before, reward, degradation.lowers, severity) if after is None else after.scores
    return np.asarray((spoilt - before) / np.array(reward.max_scores)), after is not None


def effects(
    spec: BenchSpec, reward: RewardSpec, examples: Sequence[Example], limits: Mapping[str, Limits]
) -> list[Effect]:
    """What every degradation does to every dimension, each example spoilt once by each, at drawn severities.

    Examples of sources without limits are left out; so is a degradation that none of the others can have.
    """
    kept = [example for example in examples if example.source in limits and example.track.state is not None]
    result: list[Effect] = []
    for degradation in spec.degradations:
        rows: list[NDArray[np.float64]] = []
        by_states = False
        for number, example in enumerate(kept):
            track = example.track
            if degradation.kind in ("splice", "swapped_actions"):
                other = _other(kept, number, degradation)
                if other is None:
                    continue
                track = replace(track, other=other.track.state)
            if degradation.kind == "object_teleported" and (track.keypoints is None or track.camera is None):
                continue
            rng = generator(spec.seed, "effects", degradation.kind, number)
            severity = float(rng.uniform(degradation.mildest, degradation.worst))
            row, known = change(reward, degradation, severity, int(rng.integers(2**31)), track, limits[example.source])
            rows.append(row)
            by_states |= known
        for column, (name, dimension) in enumerate(reward.dimensions.items() if rows else ()):
            result.append(
                Effect(
                    degradation=degradation.kind,
                    dimension=name,
                    change=bootstrap([row[column] for row in rows], DRAWS),
                    declared=dimension.labeller.kind in degradation.lowers,
                    tolerance=degradation.may_lower.get(dimension.labeller.kind, degradation.tolerance),
                    measured=by_states,
                )
            )
    return result


def effects_table(found: Sequence[Effect], dimensions: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table: one degradation a row, one dimension a column.

    A cell is the mean change in per cent of the maximum score with its interval. It is bold if the degradation should
    lower it, with ✓ if the whole interval is below 0; otherwise it has the least tolerated value, and ✓ if the mean
    keeps it.
    """
    head = ["degradation", "clips", "by", *(name.replace("_", " ") for name in dimensions)]
    rows: list[list[str]] = []
    for kind in dict.fromkeys(effect.degradation for effect in found):
        own = {effect.dimension: effect for effect in found if effect.degradation == kind}
        first = next(iter(own.values()))
        cells = [_cell(own[name]) for name in dimensions]
        by = "states" if first.measured else "declaration"
        rows.append([kind, str(first.change.n), by, *cells])
    return head, rows


def _cell(effect: Effect) -> str:
    low, mean, high = (100 * value + 0.0 for value in (effect.change.low, effect.change.mean, effect.change.high))
    if not effect.measured:
        return f"{mean:.0f} (declared)" if effect.declared else "none"
    mark = "✓" if effect.holds else "✗"
    text = f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    return f"**{text}** {mark}" if effect.declared else f"{text} ≥ {-100 * effect.tolerance:.0f} {mark}"
