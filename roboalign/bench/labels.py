"""Labels: the rubric's scores of recorded clips, and what degradations and generation take from them.

Every label says where it came from:

- `rubric`: the rubric over the recorded states;
- `full_marks`: a source without states, whose recordings have the maximum score by construction (paper);
- `rubric_rearranged`: the rubric over the states in the order that the spoilt clip shows them;
- `rubric_moved`: the rubric over the states with the object away or elsewhere, as the spoilt clip shows them;
- `rubric_swapped`: the rubric over the recorded states against the outcome of another episode's actions;
- `rubric_declared`, `full_marks_declared`: either of the first two, lowered by the degradation's declared losses;
- `rubric_probed`: a generated clip, by the states that the probe sees in it; see roboalign/bench/probed.py;
- `rubric_probed_group`: a rollout of a group, by the same states without allowance for the probe's errors;
- `distance_rule`: a generated clip whose states nobody sees; see GeneratedSpec;
- `people`, `vlm`: the mean of annotations; see roboalign/bench/annotations.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.degradations import absence, moves, rearrange, rearranges, teleport
from roboalign.bench.probed import GRIPPER
from roboalign.bench.spec import DegradationSpec, GeneratedSpec
from roboalign.probe.camera import lens, point_depths
from roboalign.reward.rubric import OBJECT, Limits, faithful_score, score
from roboalign.reward.spec import LabellerKind, RewardSpec
from roboalign.types import STATE_NAMES, Float32, UInt8

Scores = NDArray[np.float64]

Provenance = Literal[
    "rubric",
    "full_marks",
    "rubric_rearranged",
    "rubric_moved",
    "rubric_swapped",
    "rubric_declared",
    "full_marks_declared",
    "rubric_probed",
    "rubric_probed_group",
    "distance_rule",
    "people",
    "vlm",
]
"""Where a label came from."""

SAME_PLACE_M = 0.03
"""Metres between two places of an object that count as the same outcome."""

_SUCCESS = STATE_NAMES.index("success")
_TOUCH = slice(STATE_NAMES.index("contact"), STATE_NAMES.index("force") + 1)


@dataclass(frozen=True, slots=True)
class Track:
    """What is recorded of a clip of T frames beside its frames; None where it is not."""

    state: Float32 | None = None
    """(T, 14), columns STATE_NAMES."""
    keypoints: Float32 | None = None
    """(T, 6), columns KEYPOINT_NAMES."""
    camera: NDArray[np.float64] | None = None
    """(3, 4), from points in metres to image coordinates; see roboalign/probe/camera.py."""
    other: Float32 | None = None
    """States of the other episode: from its first frame on for a splice, of the same frames for swapped actions."""


@dataclass(frozen=True, slots=True)
class Label:
    """The label of a clip and its provenance."""

    scores: Scores
    """(D,): raw absolute scores."""
    faithful: Scores
    """(D,): raw faithful scores."""
    provenance: Provenance


def lower(scores: Scores, spec: RewardSpec, losses: Mapping[LabellerKind, float], amount: float) -> Scores:
    """Scores (D,) less `amount` times each labeller's share of the maximum score, at least 0."""
    shares = np.array([losses.get(dimension.labeller.kind, 0.0) for dimension in spec.dimensions.values()])
    lowered: Scores = np.maximum(scores - amount * shares * np.array(spec.max_scores), 0)
    return lowered


def label_recorded(spec: RewardSpec, state: Float32 | None, limits: Limits | None) -> Label:
    """The label of a recorded clip from its states (T, 14). It shows what truly happened, so it is wholly faithful."""
    faithful = np.array(spec.max_scores)
    if state is None or limits is None:
        return Label(np.array(spec.max_scores), faithful, "full_marks")
    return Label(score(spec, state, state, limits), faithful, "rubric")


def rearranged_state(state: Float32, order: NDArray[np.int64], other: Float32 | None) -> Float32:
    """The states that a rearranged clip shows. A frame of another episode never shows this task's success."""
    if order.max() < len(state):
        return state[order]
    if other is None:
        raise ValueError("the states of the other clip are missing")
    foreign = other.copy()
    foreign[:, _SUCCESS] = 0
    return np.concatenate([state, foreign])[order]


def remove_object(state: Float32, span: slice) -> Float32:
    """States (T, 14) that do not show the object in the frames `span`: no place, no touch, no success."""
    result = state.copy()
    result[span, OBJECT] = np.nan
    result[span, _TOUCH] = 0
    result[span, _SUCCESS] = 0
    return result


def displace_object(state: Float32, span: slice, way: Float32, camera: NDArray[np.float64]) -> Float32:
    """States (T, 14) that show the object `way` (2,) elsewhere in the picture in the frames `span`, at its own depth:
    it is pasted in its own size. There it is not touched, and no success."""
    result = state.copy()
    depths = point_depths(camera, state[span, OBJECT].astype(np.float64))
    rays = lens(camera)[:, :3] @ np.append(way.astype(np.float64), 0.0)
    result[span, OBJECT] += (depths[:, None] * rays).astype(np.float32)
    result[span, _TOUCH] = 0
    result[span, _SUCCESS] = 0
    return result


def outcome_of_other(state: Float32, other: Float32) -> Float32:
    """What the actions of another episode (its states `other`, (T, 14)) would lead to from the first state: its
    motion of gripper and object, from there. For the gripper that is nearly exact, for the object it is a guess.

    Success is kept in the frames in which the object would be within SAME_PLACE_M of its recorded place.
    """
    result = state.copy()
    for part in (GRIPPER, OBJECT):
        result[:, part] = state[0, part] + other[: len(state), part] - other[0, part]
    apart = np.linalg.norm(result[:, OBJECT] - state[:, OBJECT], axis=1)
    result[:, _SUCCESS] *= apart <= SAME_PLACE_M
    return result


def shown_states(
    degradation: DegradationSpec, severity: float, seed: int, track: Track
) -> tuple[Float32, Float32, Provenance] | None:
    """The states that a spoilt clip shows, those that it should show, and what a label by them is called; None where
    the states do not tell (altered pixels, swapped instructions, no states or no camera)."""
    kind, state = degradation.kind, track.state
    if state is None:
        return None
    rng = np.random.default_rng(seed)
    if rearranges(kind):
        order = rearrange(kind, len(state), severity, rng)
        return rearranged_state(state, order, track.other), state, "rubric_rearranged"
    if kind == "swapped_actions":
        return None if track.other is None else (state, outcome_of_other(state, track.other), "rubric_swapped")
    if not moves(kind):
        return None
    match kind:
        case "object_removed":
            return remove_object(state, absence(len(state), severity, rng)), state, "rubric_moved"
        case "object_teleported":
            if track.keypoints is None or track.camera is None:
                return None
            return (
                displace_object(state, *teleport(track.keypoints, severity, rng), track.camera),
                state,
                "rubric_moved",
            )
        case _:
            assert_never(kind)


def label_by_states(
    spec: RewardSpec, degradation: DegradationSpec, severity: float, seed: int, track: Track, limits: Limits | None
) -> Label | None:
    """The rubric's label of what a spoilt clip shows, in all dimensions; None if the states cannot determine it."""
    states = shown_states(degradation, severity, seed, track)
    if states is None or limits is None or track.state is None:
        return None
    seen, reference, provenance = states
    scores, faithful = score(spec, seen, reference, limits), faithful_score(spec, seen, reference, limits)
    if degradation.kind == "swapped_actions":
        # The absolute scores ask what the clip shows, whoever acted; only this one asks what the actions should do.
        about_actions = np.array([each.labeller.kind == "action_outcome" for each in spec.dimensions.values()])
        scores = np.where(about_actions, scores, score(spec, track.state, track.state, limits))
    return Label(scores, faithful, provenance)


def label_degraded(
    spec: RewardSpec, degradation: DegradationSpec, severity: float, seed: int, track: Track, limits: Limits | None
) -> Label:
    """The label of a clip with the records `track`, after `degrade` with the same severity and seed.

    Only the dimensions that the degradation declares (`lowers`, `may_lower`) can fall, and none can rise. A swapped
    instruction changes what is asked for and not what is shown, so the clip stays faithful.
    """
    before = label_recorded(spec, track.state, limits)
    full = np.array(spec.max_scores)
    instructed = degradation.kind == "swapped_instruction"
    declared_faithful = full if instructed else lower(full, spec, degradation.lowers, severity)
    declared_scores = lower(before.scores, spec, degradation.lowers, severity)
    if track.state is None or limits is None:
        return Label(declared_scores, declared_faithful, "full_marks_declared")
    after = label_by_states(spec, degradation, severity, seed, track, limits)
    if after is None:
        return Label(declared_scores, declared_faithful, "rubric_declared")
    declared = {*degradation.lowers, *degradation.may_lower}
    touched = np.array([dimension.labeller.kind in declared for dimension in spec.dimensions.values()])
    scores = np.where(touched, np.minimum(before.scores, after.scores), before.scores)
    # Other actions lead elsewhere in every respect, whatever they are declared to lower in what the clip shows.
    faithful = after.faithful if degradation.kind == "swapped_actions" else np.where(touched, after.faithful, full)
    return Label(scores, faithful, after.provenance)


def distance(generated: UInt8, true: UInt8, floor: float) -> float:
    """Squared error of a generated clip (T, H, W, 3) over that of repeating its first, recorded frame; at most 1."""
    truth = true[1:].astype(np.float64) / 255
    error = float(((generated[1:] / 255 - truth) ** 2).mean())
    still = float(((true[:1] / 255 - truth) ** 2).mean())
    return min(1.0, error / (still + floor))


def label_generated(
    spec: RewardSpec, rule: GeneratedSpec, far: float, state: Float32 | None, limits: Limits | None
) -> Label:
    """The label of a rollout that lies `far` (0 to 1) from the true future, whose states are `state`."""
    true = label_recorded(spec, state, limits)
    faithful = lower(true.faithful, spec, rule.lowers, far)
    return Label(lower(true.scores, spec, rule.lowers, far), faithful, "distance_rule")
