"""Labels: the rubric's scores of recorded clips, and what degradations and generation take from them.

Every label says where it came from:

- `rubric`: the rubric over the recorded states;
- `full_marks`: a source without states, whose recordings score full marks by construction (paper);
- `rubric_rearranged`: the rubric over the states in the order that the spoilt clip shows them;
- `rubric_declared`, `full_marks_declared`: either of the first two, lowered by the degradation's declared losses;
- `distance_rule`: a generated clip; see GeneratedSpec.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.degradations import rearrange, rearranges
from roboalign.bench.spec import DegradationSpec, GeneratedSpec
from roboalign.reward.rubric import Limits, score
from roboalign.reward.spec import LabellerKind, RewardSpec
from roboalign.types import STATE_NAMES, Float32, UInt8

Scores = NDArray[np.float64]

Provenance = Literal[
    "rubric", "full_marks", "rubric_rearranged", "rubric_declared", "full_marks_declared", "distance_rule"
]
"""Where a label came from."""


def lower(scores: Scores, spec: RewardSpec, losses: Mapping[LabellerKind, float], amount: float) -> Scores:
    """Scores (D,) less `amount` times each labeller's share of full marks, at least 0."""
    shares = np.array([losses.get(dimension.labeller.kind, 0.0) for dimension in spec.dimensions])
    lowered: Scores = np.maximum(scores - amount * shares * np.array(spec.maxima), 0)
    return lowered


def label_recorded(spec: RewardSpec, state: Float32 | None, limits: Limits | None) -> tuple[Scores, Provenance]:
    """Scores of a recorded clip from its states (T, 14)."""
    if state is None or limits is None:
        return np.array(spec.maxima), "full_marks"
    return score(spec, state, state, limits), "rubric"


def rearranged_state(state: Float32, order: NDArray[np.int64], other: Float32 | None) -> Float32:
    """The states that a rearranged clip shows. A frame of another episode never shows this task's success."""
    if order.max() < len(state):
        return state[order]
    if other is None:
        raise ValueError("the states of the other clip are missing")
    foreign = other.copy()
    foreign[:, STATE_NAMES.index("success")] = 0
    return np.concatenate([state, foreign])[order]


def label_degraded(
    spec: RewardSpec,
    degradation: DegradationSpec,
    severity: float,
    seed: int,
    state: Float32 | None,
    limits: Limits | None,
    other: Float32 | None = None,
) -> tuple[Scores, Provenance]:
    """Scores of a clip whose recorded states were `state`, after `degrade` with the same severity and seed.

    Only the dimensions that the degradation declares can fall, and none can rise.
    """
    before, _ = label_recorded(spec, state, limits)
    if state is None or limits is None:
        return lower(before, spec, degradation.lowers, severity), "full_marks_declared"
    if not rearranges(degradation.kind):
        return lower(before, spec, degradation.lowers, severity), "rubric_declared"
    order = rearrange(degradation.kind, len(state), severity, np.random.default_rng(seed))
    after = score(spec, rearranged_state(state, order, other), state, limits)
    touched = np.array([dimension.labeller.kind in degradation.lowers for dimension in spec.dimensions])
    return np.where(touched, np.minimum(before, after), before), "rubric_rearranged"


def distance(generated: UInt8, true: UInt8, floor: float) -> float:
    """Squared error of a generated clip (T, H, W, 3) over that of repeating its first, recorded frame; at most 1."""
    truth = true[1:].astype(np.float64) / 255
    error = float(((generated[1:] / 255 - truth) ** 2).mean())
    still = float(((true[:1] / 255 - truth) ** 2).mean())
    return min(1.0, error / (still + floor))


def label_generated(
    spec: RewardSpec, rule: GeneratedSpec, far: float, state: Float32 | None, limits: Limits | None
) -> tuple[Scores, Provenance]:
    """Scores of a rollout that lies `far` (0 to 1) from the true future, whose states are `state`."""
    return lower(label_recorded(spec, state, limits)[0], spec, rule.lowers, far), "distance_rule"
