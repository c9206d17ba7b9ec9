"""Labels of clips: scores by the rubric, by declared losses, by a state probe or by the distance from the true future.

The provenance of a label says how it was obtained:

- `rubric`: the rubric over the recorded states;
- `full_marks`: a source without states, whose recordings have the maximum score by construction (paper);
- `rubric_rearranged`: the rubric over the states in the order that the degraded clip shows;
- `rubric_moved`: the rubric over the states with the object removed or displaced, as the degraded clip shows it;
- `rubric_swapped`: the rubric over the recorded states against the outcome of another episode's actions;
- `rubric_declared`, `full_marks_declared`: either of the first two, lowered by the degradation's declared losses;
- `rubric_probed`: a generated clip, by the states that a probe perceives in it, see `label_by_probe`;
- `rubric_probed_group`: a rollout of a group, by the same states without allowance for the probe's errors;
- `distance_rule`: a generated clip that no probe covers, see GeneratedSpec;
- `people`, `vlm`: the mean of annotations, see roboalign/bench/annotations.py.

A state probe errs on true frames too, and its errors must not lower the score. A generated clip is therefore compared
with what the same probe perceives in the true future of the same actions, not with the recorded states; the rubric's
limits are calibrated on probed true clips; and score differences within the probe's own error, the slack, are ignored:

    label = score(recorded states) + shrink(score(probed clip) - score(probed true future), slack)

A clip that equals the true future gets its exact score. A clip that shows a success which the actions did not cause
gains the score of success and loses that of action-outcome consistency.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.degradations import absent_frames, frame_order, moves_object, rearranges, sample_teleport
from roboalign.bench.spec import DegradationSpec, GeneratedSpec
from roboalign.probe.camera import lens, point_depths
from roboalign.reward.rubric import OBJECT, Limits, calibrate, faithful_score, from_change, score
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
"""How a label was obtained."""

SAME_POSITION_M = 0.03
"""Distance in metres up to which two object positions are the same outcome."""

SUCCESS = STATE_NAMES.index("success")
GRIPPER = slice(STATE_NAMES.index("gripper_x"), STATE_NAMES.index("gripper_z") + 1)
TOUCH = slice(STATE_NAMES.index("contact"), STATE_NAMES.index("force") + 1)


@dataclass(frozen=True, slots=True)
class Label:
    """The label of a clip and its provenance."""

    scores: Scores
    """(D,): raw absolute scores."""
    faithful: Scores
    """(D,): raw faithful scores."""
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class RecordedStates:
    """The records of a clip of T frames beside its frames; None if the source lacks them."""

    state: Float32 | None = None
    """(T, 14), columns STATE_NAMES."""
    keypoints: Float32 | None = None
    """(T, 6), columns KEYPOINT_NAMES."""
    camera: NDArray[np.float64] | None = None
    """(3, 4), from points in metres to image coordinates; see roboalign/probe/camera.py."""
    other_state: Float32 | None = None
    """States of the other episode: from its first frame on for a splice, of the same frames for swapped actions."""


def subtract_losses(scores: Scores, spec: RewardSpec, losses: Mapping[LabellerKind, float], severity: float) -> Scores:
    """Scores (D,) less `severity` times each labeller's share of the maximum score, at least 0."""
    shares = np.array([losses.get(dimension.labeller.kind, 0.0) for dimension in spec.dimensions.values()])
    lowered: Scores = np.maximum(scores - severity * shares * np.array(spec.max_scores), 0)
    return lowered


def label_recorded(spec: RewardSpec, state: Float32 | None, limits: Limits | None) -> Label:
    """The label of a recorded clip from its states (T, 14). It shows what happened, so its faithful score is full."""
    faithful = np.array(spec.max_scores)
    if state is None or limits is None:
        return Label(np.array(spec.max_scores), faithful, "full_marks")
    return Label(score(spec, state, state, limits), faithful, "rubric")


def label_degraded(
    spec: RewardSpec,
    degradation: DegradationSpec,
    severity: float,
    seed: int,
    recorded: RecordedStates,
    limits: Limits | None,
) -> Label:
    """The label of a recorded clip after `degrade` with the same severity and seed.

    Only the declared dimensions (`lowers`, `may_lower`) can fall, and none can rise. A swapped instruction changes the
    task and not what the clip shows, so the clip stays faithful.
    """
    before = label_recorded(spec, recorded.state, limits)
    full = np.array(spec.max_scores)
    faithful = full
    if degradation.kind != "swapped_instruction":
        faithful = subtract_losses(full, spec, degradation.lowers, severity)
    scores = subtract_losses(before.scores, spec, degradation.lowers, severity)
    if recorded.state is None or limits is None:
        return Label(scores, faithful, "full_marks_declared")
    after = label_by_states(spec, degradation, severity, seed, recorded, limits)
    if after is None:
        return Label(scores, faithful, "rubric_declared")
    kinds = {*degradation.lowers, *degradation.may_lower}
    declared = np.array([dimension.labeller.kind in kinds for dimension in spec.dimensions.values()])
    scores = np.where(declared, np.minimum(before.scores, after.scores), before.scores)
    # The true outcome of swapped actions differs in every dimension, whatever the degradation declares.
    faithful = after.faithful if degradation.kind == "swapped_actions" else np.where(declared, after.faithful, full)
    return Label(scores, faithful, after.provenance)


def label_by_states(
    spec: RewardSpec,
    degradation: DegradationSpec,
    severity: float,
    seed: int,
    recorded: RecordedStates,
    limits: Limits | None,
) -> Label | None:
    """The rubric's label of the states that a degraded clip shows, in all dimensions; None if they are unknown."""
    states = shown_states(degradation, severity, seed, recorded)
    if states is None or limits is None or recorded.state is None:
        return None
    shown, expected, provenance = states
    scores, faithful = score(spec, shown, expected, limits), faithful_score(spec, shown, expected, limits)
    if degradation.kind == "swapped_actions":
        # Absolute scores rate what the clip shows, whatever the actions; only this dimension depends on the actions.
        action_outcome = np.array([each.labeller.kind == "action_outcome" for each in spec.dimensions.values()])
        scores = np.where(action_outcome, scores, score(spec, recorded.state, recorded.state, limits))
    return Label(scores, faithful, provenance)


def shown_states(
    degradation: DegradationSpec, severity: float, seed: int, recorded: RecordedStates
) -> tuple[Float32, Float32, Provenance] | None:
    """(shown states, expected states, provenance) of a degraded clip, or None if they cannot be computed: altered
    pixels, swapped instructions, no recorded states, or no camera for a teleported object."""
    kind, state = degradation.kind, recorded.state
    if state is None:
        return None
    if rearranges(kind):
        order = frame_order(kind, len(state), severity, seed)
        return rearrange_states(state, order, recorded.other_state), state, "rubric_rearranged"
    if kind == "swapped_actions":
        other = recorded.other_state
        return None if other is None else (state, outcome_of_other(state, other), "rubric_swapped")
    if not moves_object(kind):
        return None
    match kind:
        case "object_removed":
            return remove_object(state, absent_frames(len(state), severity, seed)), state, "rubric_moved"
        case "object_teleported":
            if recorded.keypoints is None or recorded.camera is None:
                return None
            frames, offset = sample_teleport(recorded.keypoints, severity, seed)
            return displace_object(state, frames, offset, recorded.camera), state, "rubric_moved"
        case _:
            assert_never(kind)


def rearrange_states(state: Float32, order: NDArray[np.int64], other: Float32 | None) -> Float32:
    """The states that a rearranged clip shows. Frames of another episode never show this task's success."""
    if order.max() < len(state):
        return state[order]
    if other is None:
        raise ValueError("a splice needs the states of the other clip")
    foreign = other.copy()
    foreign[:, SUCCESS] = 0
    return np.concatenate([state, foreign])[order]


def remove_object(state: Float32, frames: slice) -> Float32:
    """States (T, 14) without the object in some frames: NaN position, no contact, no success."""
    result = state.copy()
    result[frames, OBJECT] = np.nan
    result[frames, TOUCH] = 0
    result[frames, SUCCESS] = 0
    return result


def displace_object(state: Float32, frames: slice, offset: Float32, camera: NDArray[np.float64]) -> Float32:
    """States (T, 14) with the object displaced by `offset` (2,) in image coordinates in some frames.

    The object is pasted at its own size, hence it keeps its depth. Displaced, it has no contact and no success.
    """
    result = state.copy()
    depths = point_depths(camera, state[frames, OBJECT].astype(np.float64))
    rays = lens(camera)[:, :3] @ np.append(offset.astype(np.float64), 0.0)
    result[frames, OBJECT] += (depths[:, None] * rays).astype(np.float32)
    result[frames, TOUCH] = 0
    result[frames, SUCCESS] = 0
    return result


def outcome_of_other(state: Float32, other: Float32) -> Float32:
    """The states to which the actions of another episode, of states `other` (T, 14), would lead from the first state.

    Gripper and object move as they do there: nearly exact for the gripper, a guess for the object. Success is kept in
    frames in which the object would be within SAME_POSITION_M of its recorded position.
    """
    result = state.copy()
    for part in (GRIPPER, OBJECT):
        result[:, part] = state[0, part] + other[: len(state), part] - other[0, part]
    distances = np.linalg.norm(result[:, OBJECT] - state[:, OBJECT], axis=1)
    result[:, SUCCESS] *= distances <= SAME_POSITION_M
    return result


def distance_from_truth(generated: UInt8, true: UInt8, eps: float) -> float:
    """Squared error of a generated clip (T, H, W, 3) divided by that of repeating its recorded first frame; at most 1.

    `eps` is added to the denominator.
    """
    truth = true[1:].astype(np.float64) / 255
    error = float(((generated[1:] / 255 - truth) ** 2).mean())
    still = float(((true[:1] / 255 - truth) ** 2).mean())
    return min(1.0, error / (still + eps))


def label_by_distance(
    spec: RewardSpec, rule: GeneratedSpec, distance: float, state: Float32 | None, limits: Limits | None
) -> Label:
    """The label of a rollout at a distance (0 to 1) from the true future, whose recorded states are `state`."""
    true = label_recorded(spec, state, limits)
    scores = subtract_losses(true.scores, spec, rule.lowers, distance)
    return Label(scores, subtract_losses(true.faithful, spec, rule.lowers, distance), "distance_rule")


@dataclass(frozen=True, slots=True)
class ProbeCalibration:
    """The errors of a state probe on the true clips of one source."""

    limits: Limits
    """The rubric's limits on probed clips, at least those on recorded states."""
    slack: Scores
    """(D,): raw score differences that the probe's own errors cause."""
    clips: int
    """Number of clips that the slack was measured on."""
    explained_variance: float
    """Share of the variance of positions within a task that the probe explains, the lower of gripper and object: 1 for
    a probe without errors, 0 or less for a constant one."""


@dataclass(frozen=True, slots=True)
class ProbedClip:
    """The states (T, 14) of a recorded clip, perceived and recorded."""

    task: str
    probed: Float32
    """States that the probe perceives in the clip."""
    reconstructed: Float32 | None
    """States that it perceives in the tokenizer's reconstruction of the clip; None without a tokenizer."""
    state: Float32
    """Recorded states."""
    success: bool
    """Whether the clip is from a successful expert episode."""


def calibrate_probe(
    spec: RewardSpec, unseen: Sequence[ProbedClip], trained: Sequence[ProbedClip], limits: Limits, quantile: float
) -> ProbeCalibration:
    """The calibration of a probe on one source.

    The slack of a dimension is the `quantile` of the score differences between clips and their reconstructions by the
    tokenizer: the error on the best that a world model can do. Without a tokenizer it is that of the probe's errors in
    the score of a true clip, times the square root of 2, since a comparison of two clips errs twice.

    Args:
        spec: The rubric.
        unseen: Clips that the probe was not trained on; they determine limits and slack.
        trained: Clips that it was trained on; they enter the explained variance only, as a few clips vary too little.
        limits: The rubric's limits on recorded states.
        quantile: See GeneratedSpec.probe_quantile.

    Raises ValueError without clips.
    """
    states = [(s, clip.success) for clip in unseen for s in (clip.probed, clip.reconstructed) if s is not None]
    probed = calibrate(states, spec.calibration)
    loose = Limits(**{name: max(getattr(limits, name), getattr(probed, name)) for name in Limits.__slots__})
    differences = [_false_difference(spec, clip, loose, limits) for clip in unseen]
    slack = np.asarray(np.quantile(differences, quantile, axis=0))
    return ProbeCalibration(loose, slack, len(unseen), explained_variance([*unseen, *trained]))


def _false_difference(spec: RewardSpec, clip: ProbedClip, loose: Limits, limits: Limits) -> Scores:
    """The absolute score difference (D,) that the probe finds between clips that do not differ."""
    if clip.reconstructed is not None:
        same = score(spec, clip.probed, clip.probed, loose)
        return np.abs(score(spec, clip.reconstructed, clip.probed, loose) - same)
    true = score(spec, clip.state, clip.state, limits)
    return np.asarray(np.sqrt(2) * np.abs(score(spec, clip.probed, clip.state, loose) - true))


def explained_variance(clips: Sequence[ProbedClip]) -> float:
    """The share of the variance of positions within a task that the probe explains, the lower of gripper and object."""
    shares: list[float] = []
    for part in (GRIPPER, OBJECT):
        error = variance = 0.0
        for task in dict.fromkeys(clip.task for clip in clips):
            true = np.concatenate([clip.state[:, part] for clip in clips if clip.task == task]).astype(np.float64)
            probed = np.concatenate([clip.probed[:, part] for clip in clips if clip.task == task]).astype(np.float64)
            error += float(((probed - true) ** 2).sum())
            variance += float(((true - true.mean(0)) ** 2).sum())
        shares.append(1 - error / max(variance, 1e-12))
    return min(shares)


def probed_change(spec: RewardSpec, shown: Float32, future: Float32, calibration: ProbeCalibration) -> Scores:
    """The score difference (D,) between a generated clip and the true future of the same actions, from the states
    (T, 14) that the probe perceives in the clip (`shown`) and in the true future."""
    limits = calibration.limits
    return score(spec, shown, future, limits) - score(spec, future, future, limits)


def label_group_rollout(spec: RewardSpec, change: Scores, state: Float32, limits: Limits) -> Label:
    """The label of a rollout of a group from its `probed_change`, without slack.

    Differences within a group are smaller than the slack, and the probe's errors affect all rollouts of it alike.
    `state` (T, 14) are the recorded states of the true future.
    """
    scores = np.clip(score(spec, state, state, limits) + change, 0, spec.max_scores)
    return Label(np.asarray(scores), from_change(spec, change), "rubric_probed_group")


def label_by_probe(
    spec: RewardSpec,
    rule: GeneratedSpec,
    change: Scores,
    state: Float32,
    limits: Limits,
    calibration: ProbeCalibration,
    by_distance: Label,
) -> Label:
    """The label of a generated clip from its `probed_change`, and from its distance if the probe cannot measure.

    Args:
        spec: The rubric.
        rule: The dimensions that depend on appearance, and the largest slack.
        change: `probed_change` of the clip.
        state: Recorded states (T, 14) of the true future.
        limits: The rubric's limits on recorded states.
        calibration: Of the probe on the clip's source.
        by_distance: The label of the same clip by its distance.
    """
    probed = label_group_rollout(spec, shrink(change, calibration.slack, np.array(spec.max_scores)), state, limits)
    scores = combine_with_distance(spec, rule, probed.scores, by_distance.scores, calibration)
    faithful = combine_with_distance(spec, rule, probed.faithful, by_distance.faithful, calibration)
    return Label(scores, faithful, "rubric_probed")


def shrink(change: Scores, slack: Scores, max_scores: Scores) -> Scores:
    """Score differences (D,) without their slack: 0 up to the slack, linear beyond it, so that a difference of the
    maximum score keeps its size. If the slack reaches the maximum score, nothing is left."""
    room = np.maximum(max_scores - slack, 1e-12)
    beyond = np.where(slack < max_scores, np.maximum(np.abs(change) - slack, 0) * max_scores / room, 0)
    return np.asarray(np.sign(change) * beyond)


def combine_with_distance(
    spec: RewardSpec, rule: GeneratedSpec, probed: Scores, by_distance: Scores, calibration: ProbeCalibration
) -> Scores:
    """Scores (D,) by the probe; by the distance in dimensions with too much slack; and the lower of both in dimensions
    that depend on appearance."""
    unreliable = calibration.slack > rule.max_slack * np.array(spec.max_scores)
    kinds = rule.appearance_dimensions
    appearance = np.array([dimension.labeller.kind in kinds for dimension in spec.dimensions.values()])
    return np.where(unreliable, by_distance, np.where(appearance, np.minimum(probed, by_distance), probed))
