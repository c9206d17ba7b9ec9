"""The rubric: scores of a simulator's state trajectory, one pure function for each dimension.

`shown` is the state trajectory that a clip shows. `reference` is the true outcome of the same actions from the same
start; for a recorded clip, both are equal. Every function returns a normalised score in [0, 1], 1 if nothing is wrong.
Limits of speed, penetration and force come from recordings of the same source (`calibrate`).

If a frame does not show the object (painted out, melted away), the object's position in that frame is NaN.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from roboalign.reward.spec import (
    ActionOutcomeSpec,
    CalibrationSpec,
    ContactSpec,
    EfficiencySpec,
    InstructionFollowingSpec,
    Labeller,
    ManipulationSpec,
    PhysicsSpec,
    RewardSpec,
    TemporalSpec,
)
from roboalign.types import STATE_NAMES, Float32

Floats = NDArray[np.float64]

OBJECT = slice(STATE_NAMES.index("object_x"), STATE_NAMES.index("object_z") + 1)
"""Columns of the object's position in a state."""

STILL_M = 1e-4
"""Length in metres below which a step does not count as motion."""

FALL_SHARE = 0.7
"""Fraction of a step's length that must point down for the step to count as a fall, which needs no contact. Our
choice."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of normal motion of one source; each is at least its floor in CalibrationSpec."""

    gripper_speed: float
    """Maximum, in metres per frame."""
    object_speed: float
    """Maximum, in metres per frame."""
    penetration: float
    """Maximum, in metres."""
    force: float
    """Maximum, in newtons."""
    near: float
    """Distance of gripper and object, in metres, within which they may touch between two frames."""
    untouched: float
    """Maximum fraction of the object's path that it moves without contact."""
    path_floor: float
    """Length in metres added to a path before fractions of it are taken, so that jitter does not count."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A state trajectory: positions (T, 3) in metres, the goal (3,) of the first frame, all other fields (T,).

    `object` is NaN in frames that do not show the object.
    """

    gripper: Floats
    object: Floats
    goal: Floats
    contact: Floats
    force: Floats
    penetration: Floats
    success: Floats

    @classmethod
    def of(cls, state: Float32) -> "Trajectory":
        """Convert a state array (T, 14) with columns STATE_NAMES.

        Raises ValueError on another shape, on T = 0, on infinity, on NaN outside of the object's position, and if the
        object is not visible in the first frame.
        """
        if state.ndim != 2 or state.shape[1] != len(STATE_NAMES) or len(state) == 0:
            raise ValueError(f"a state trajectory must be (T, {len(STATE_NAMES)}) with T > 0, not {state.shape}")
        rows = state.astype(np.float64)
        known = np.isfinite(rows)
        unseen = np.asarray(np.isnan(rows[:, OBJECT]).all(axis=1))
        known[unseen, OBJECT] = True
        if not known.all() or unseen[0]:
            raise ValueError("a state trajectory has NaN or infinity, or no object in its first frame")
        column = {name: rows[:, index] for index, name in enumerate(STATE_NAMES)}
        return cls(
            gripper=rows[:, 0:3],
            object=rows[:, OBJECT],
            goal=rows[0, 6:9],
            contact=column["contact"],
            force=column["force"],
            penetration=column["penetration"],
            success=column["success"],
        )

    @property
    def object_visible(self) -> NDArray[np.bool_]:
        """Whether each frame shows the object, (T,)."""
        return np.asarray(np.isfinite(self.object).all(axis=1))

    @property
    def distance(self) -> Floats:
        """Distance from object to goal in metres, (T,); NaN in frames that do not show the object."""
        return _lengths(self.object - self.goal)

    @property
    def succeeds(self) -> bool:
        """Whether the simulator reports success at the last frame."""
        return bool(self.success[-1] > 0.5)


def _lengths(vectors: Floats) -> Floats:
    """Euclidean lengths (N,) of vectors (N, 3)."""
    lengths: Floats = np.sqrt((vectors**2).sum(1))
    return lengths


def steps(points: Floats) -> Floats:
    """Lengths (T - 1,) of the steps of a path (T, 3); 0 for steps from or to NaN."""
    return np.nan_to_num(_lengths(np.diff(points, axis=0)))


def _clip(value: float) -> float:
    return float(min(1.0, max(0.0, value)))


def progress(shown: Trajectory) -> Floats:
    """Fraction of the object's initial distance to the goal that is covered, (T,), in [0, 1]; 0 in frames without the
    object."""
    distance = shown.distance
    covered: Floats = np.clip(1 - distance / max(distance[0], STILL_M), 0, 1)
    return np.where(shown.object_visible, covered, 0.0)


def untouched_motion(shown: Trajectory, near: float, floor: float) -> float:
    """Fraction of the object's path that it moved without being touched and without falling.

    A frame is several simulator steps long, and a contact between two frames is recorded in neither. So a step counts
    as touched if there is contact, or the gripper is within `near`, in any frame from one before to one after the step.

    Args:
        shown: The trajectory.
        near: Distance of gripper and object in metres that counts as contact.
        floor: Metres added to the path's length.
    """
    motion = np.nan_to_num(np.diff(shown.object, axis=0))
    lengths = _lengths(motion)
    in_contact = (shown.contact > 0.5) | (_lengths(shown.gripper - shown.object) <= near)
    touched = np.convolve(in_contact, np.ones(3))[1:-1] > 0  # includes the neighbouring frames
    free = ~(touched[:-1] | touched[1:])
    falling = -motion[:, 2] >= FALL_SHARE * np.maximum(lengths, STILL_M)
    return float(lengths[free & ~falling].sum() / (lengths.sum() + floor))


def calibrate(states: Iterable[tuple[Float32, bool]], spec: CalibrationSpec) -> Limits:
    """Determine the limits of a source from its recorded training episodes.

    Speed limits use all episodes, because everything that the simulator moves is physical. Limits of penetration, force
    and untouched motion use successful expert episodes only, or all if there are none.

    Args:
        states: States (T, 14) of each episode, and whether it is a successful expert's.
        spec: Quantile, margin and floors.

    Raises:
        ValueError: There are no episodes.
    """
    episodes = [(Trajectory.of(state), expert) for state, expert in states]
    if not episodes:
        raise ValueError("a source without recorded states has no rubric limits; label it by another rule")
    experts = [shown for shown, expert in episodes if expert] or [shown for shown, _ in episodes]

    def quantile(values: list[float], floor: float) -> float:
        return max(floor, float(np.quantile(values, spec.quantile)) * spec.margin)

    def fastest(paths: list[Floats]) -> float:
        return max([spec.speed_floor_m, *(float(steps(path).max(initial=0)) * spec.margin for path in paths)])

    gaps = [_lengths(shown.gripper - shown.object)[shown.contact > 0.5] for shown in experts]
    touching = np.concatenate(gaps)
    near = quantile([*touching], spec.near_floor_m) if len(touching) else spec.near_floor_m
    return Limits(
        near=near,
        gripper_speed=fastest([shown.gripper for shown, _ in episodes]),
        object_speed=fastest([shown.object for shown, _ in episodes]),
        penetration=quantile([float(shown.penetration.max()) for shown in experts], spec.penetration_floor_m),
        force=quantile([float(shown.force.max()) for shown in experts], spec.force_floor_n),
        untouched=_clip(quantile([untouched_motion(shown, near, spec.path_floor_m) for shown in experts], 0.0)),
        path_floor=spec.path_floor_m,
    )


def instruction_following(spec: InstructionFollowingSpec, shown: Trajectory) -> float:
    """The mean of the gripper's approach to the object, the best progress and the final progress; 1 for success."""
    if shown.succeeds:
        return 1.0
    gaps = _lengths(shown.gripper - shown.object)[shown.object_visible]
    if shown.contact.max() > 0.5 or gaps.min() <= spec.reach_m:
        approach = 1.0
    else:
        approach = _clip((gaps[0] - gaps.min()) / (gaps[0] - spec.reach_m))
    covered = progress(shown)
    return float(approach + covered.max() + covered[-1]) / 3


def manipulation(spec: ManipulationSpec, shown: Trajectory) -> float:
    """1 for success at the last frame, otherwise the progress there times (1 - `success_share`)."""
    return 1.0 if shown.succeeds else (1 - spec.success_share) * float(progress(shown)[-1])


def action_outcome(spec: ActionOutcomeSpec, shown: Trajectory, reference: Trajectory) -> float:
    """1 minus the mean deviation of gripper or object, whichever is larger, from the true outcome, over its extent.

    A clip that ends early is extended by its last frame, because it does not show the outcome of the remaining actions.
    A frame without the object counts as the deviation that costs everything.
    """
    held = np.minimum(np.arange(len(reference.gripper)), len(shown.gripper) - 1)

    def loss(path: Floats, truth: Floats) -> float:
        whole = spec.extent_share * max(float(_lengths(truth - truth[0]).max()), spec.floor_m)
        deviation = float(np.nan_to_num(_lengths(path[held] - truth), nan=spec.tolerance_m + whole).mean())
        return _clip((deviation - spec.tolerance_m) / whole)

    return 1 - max(loss(shown.gripper, reference.gripper), loss(shown.object, reference.object))


def _jumps(lengths: Floats, limit: float) -> Floats:
    """0 for steps within the limit, rising to 1 for steps of twice the limit or more."""
    jumps: Floats = np.clip(lengths / limit - 1, 0, 1)
    return jumps


def temporal(spec: TemporalSpec, shown: Trajectory, reference: Trajectory, limits: Limits) -> float:
    """1 minus the costs of jumps, detours and stalls.

    A detour is path length beyond the true one, as frames out of order produce even within the speed limit. An object
    that disappears or reappears counts as a jump.
    """
    gripper, item = steps(shown.gripper), steps(shown.object)
    flips = np.diff(shown.object_visible.astype(np.float64)) != 0
    jumps = np.maximum(
        _jumps(gripper, limits.gripper_speed), np.maximum(_jumps(item, limits.object_speed), flips)
    ).sum()
    count = min(len(gripper), len(reference.gripper) - 1)
    true_gripper, true_item = steps(reference.gripper)[:count], steps(reference.object)[:count]
    still = np.maximum(gripper, item)[:count] < STILL_M
    moving = np.maximum(true_gripper, true_item) >= STILL_M
    stalled = float((still & moving).sum() / max(1, moving.sum()))
    detour = max(
        float(path.sum() - truth.sum()) / (float(truth.sum()) + limits.path_floor)
        for path, truth in ((gripper, true_gripper), (item, true_item))
    )
    return _clip(1 - spec.jump_cost * float(jumps) - spec.stall_cost * stalled - spec.detour_cost * _clip(detour / 2))


def contact(spec: ContactSpec, shown: Trajectory, limits: Limits) -> float:
    """1 minus the costs of excessive force and of untouched motion beyond the source's limit."""
    ghost = _clip(
        (untouched_motion(shown, limits.near, limits.path_floor) - limits.untouched)
        / max(1 - limits.untouched, STILL_M)
    )
    force = _clip(float(shown.force.max()) / limits.force - 1)
    return _clip((1 - ghost) * (1 - spec.force_share * force))


def physics(spec: PhysicsSpec, shown: Trajectory, limits: Limits) -> float:
    """1 minus the costs of penetration beyond the source's limit, of jumps of the object, and of its absence."""
    depth = _clip(float(shown.penetration.max()) / limits.penetration - 1)
    jumps = float(_jumps(steps(shown.object), limits.object_speed).sum())
    absent = float((~shown.object_visible).mean())
    gone = spec.absent_cost * (1 + absent) / 2 if absent else 0.0
    return _clip(1 - spec.penetration_share * depth - min(spec.jump_cost * jumps, 1 - spec.penetration_share) - gone)


def efficiency(spec: EfficiencySpec, shown: Trajectory) -> float:
    """1 up to a path of `slack` times the needed distance (gripper to object to goal), then falling as 1 / path."""
    needed = float(np.linalg.norm(shown.gripper[0] - shown.object[0]) + shown.distance[0])
    path = float(steps(shown.gripper).sum())
    return _clip(spec.slack * needed / max(path, STILL_M))


def normalized_score(spec: Labeller, shown: Trajectory, reference: Trajectory, limits: Limits) -> float:
    """The normalised score in [0, 1] by one labeller."""
    match spec:
        case InstructionFollowingSpec():
            return instruction_following(spec, shown)
        case ManipulationSpec():
            return manipulation(spec, shown)
        case ActionOutcomeSpec():
            return action_outcome(spec, shown, reference)
        case TemporalSpec():
            return temporal(spec, shown, reference, limits)
        case ContactSpec():
            return contact(spec, shown, limits)
        case PhysicsSpec():
            return physics(spec, shown, limits)
        case EfficiencySpec():
            return efficiency(spec, shown)
        case _:
            assert_never(spec)


def score(spec: RewardSpec, shown: Float32, reference: Float32, limits: Limits) -> Floats:
    """Raw scores (D,) of a clip that shows the states `shown` (T, 14) with the true outcome `reference` (T', 14)."""
    clip, truth = Trajectory.of(shown), Trajectory.of(reference)
    return np.array([d.max_score * normalized_score(d.labeller, clip, truth, limits) for d in spec.dimensions.values()])


def faithful_score(spec: RewardSpec, shown: Float32, reference: Float32, limits: Limits) -> Floats:
    """Raw faithful scores (D,): agreement of a clip that shows the states `shown` with the true outcome `reference`.

    Each dimension is its maximum minus the absolute difference between the scores of `shown` and `reference`. A success
    that is shown but did not happen costs as much as one that happened but is not shown.
    """
    return from_change(spec, score(spec, shown, reference, limits) - score(spec, reference, reference, limits))


def from_change(spec: RewardSpec, change: Floats) -> Floats:
    """Raw faithful scores (D,) from `change` (D,), the clip's absolute scores minus those of the true outcome."""
    return np.asarray(np.maximum(np.array(spec.max_scores) - np.abs(change), 0))


def limits_to_json(limits: dict[str, Limits]) -> dict[str, dict[str, float]]:
    """Convert limits by source to JSON values."""
    return {source: asdict(value) for source, value in sorted(limits.items())}


def limits_from_json(value: dict[str, dict[str, float]]) -> dict[str, Limits]:
    """Read limits by source from the values of `limits_to_json`."""
    return {source: Limits(**fields) for source, fields in value.items()}
