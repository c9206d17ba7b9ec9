"""The rubric: scores from a simulator's state trajectory, one pure function a dimension.

What a clip *shows* is a state trajectory; what it should show is the true outcome of the same actions from the same
start (`reference`; for a recorded clip, itself). Every function gives a share of the maximum score, in [0, 1], and 1 if
nothing is wrong. Limits of speed, penetration and force come from the source's own recordings (`calibrate`).

An object that a clip does not show (painted out, melted away) has NaN for its position in that frame.
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
"""The object's position among the columns of a state."""

STILL_M = 1e-4
"""A step shorter than this, in metres, is no motion."""

FALL_SHARE = 0.7
"""A step of which at least this share points down is a fall, which needs no contact. Our choice."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is normal for one source; all at least the floors of CalibrationSpec."""

    gripper_speed: float
    """Metres a frame."""
    object_speed: float
    """Metres a frame."""
    penetration: float
    """Metres."""
    force: float
    """Newtons."""
    near: float
    """Metres between gripper and object within which they may touch between two frames."""
    untouched: float
    """Share of object motion away from the gripper."""
    path_floor: float
    """Metres added to a path before shares of its length are taken, so that jitter does not count."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A state trajectory by its parts: positions (T, 3) in metres, goal (3,) as at the first frame, flags (T,).

    `object` is NaN where the object is not seen.
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
        """From a state array (T, 14), columns STATE_NAMES. Raises ValueError on another width, no rows, infinity, an
        object that is not seen in the first frame, or NaN anywhere but in an object's whole position."""
        if state.ndim != 2 or state.shape[1] != len(STATE_NAMES) or len(state) == 0:
            raise ValueError(f"a state trajectory is (T, {len(STATE_NAMES)}) with T > 0, not {state.shape}")
        rows = state.astype(np.float64)
        known = np.isfinite(rows)
        unseen = np.asarray(np.isnan(rows[:, OBJECT]).all(axis=1))
        known[unseen, OBJECT] = True
        if not known.all() or unseen[0]:
            raise ValueError("a state trajectory holds NaN or infinity, or does not show the object at first")
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
        """Whether a frame shows the object, (T,)."""
        return np.asarray(np.isfinite(self.object).all(axis=1))

    @property
    def distance(self) -> Floats:
        """Object to goal, metres, (T,); NaN where it is not seen."""
        return _lengths(self.object - self.goal)

    @property
    def succeeds(self) -> bool:
        """Whether the simulator sees success at the last frame."""
        return bool(self.success[-1] > 0.5)


def _lengths(vectors: Floats) -> Floats:
    """Euclidean lengths of vectors (N, 3): (N,)."""
    lengths: Floats = np.sqrt((vectors**2).sum(1))
    return lengths


def steps(points: Floats) -> Floats:
    """Lengths of the steps of a path (T, 3): (T - 1,); 0 from or to a point that is not known."""
    return np.nan_to_num(_lengths(np.diff(points, axis=0)))


def _clip(value: float) -> float:
    return float(min(1.0, max(0.0, value)))


def progress(shown: Trajectory) -> Floats:
    """Share of the object's initial distance to the goal that is covered, by frame, (T,), in [0, 1]; 0 where the object
    is not seen."""
    distance = shown.distance
    covered: Floats = np.clip(1 - distance / max(distance[0], STILL_M), 0, 1)
    return np.where(shown.object_visible, covered, 0.0)


def untouched_motion(shown: Trajectory, near: float, floor: float) -> float:
    """Share of the object's path that it moved neither touched nor falling; `floor` metres are added to the path.

    Touched counts in the frame before or after a step or their neighbours, and so does a gripper nearer than `near`
    metres: a frame is several simulator steps long, and a hit between two frames is recorded in neither.
    """
    motion = np.nan_to_num(np.diff(shown.object, axis=0))
    lengths = _lengths(motion)
    close = (shown.contact > 0.5) | (_lengths(shown.gripper - shown.object) <= near)
    touched = np.convolve(close, np.ones(3))[1:-1] > 0
    free = ~(touched[:-1] | touched[1:])
    falling = -motion[:, 2] >= FALL_SHARE * np.maximum(lengths, STILL_M)
    return float(lengths[free & ~falling].sum() / (lengths.sum() + floor))


def calibrate(states: Iterable[tuple[Float32, bool]], spec: CalibrationSpec) -> Limits:
    """The limits of a source from its recorded training states, each with whether it is a successful expert's.

    Speeds are taken over all recordings, for whatever the simulator moved is physical; penetration, force and
    untouched motion over successful experts (over all, where there is none). Raises ValueError without states.
    """
    every = [(Trajectory.of(state), expert) for state, expert in states]
    if not every:
        raise ValueError("a source without recorded states has no rubric limits; label it by another rule")
    experts = [shown for shown, expert in every if expert] or [shown for shown, _ in every]

    def quantile(values: list[float], floor: float) -> float:
        return max(floor, float(np.quantile(values, spec.quantile)) * spec.margin)

    def fastest(paths: list[Floats]) -> float:
        return max([spec.speed_floor_m, *(float(steps(path).max(initial=0)) * spec.margin for path in paths)])

    gaps = [_lengths(shown.gripper - shown.object)[shown.contact > 0.5] for shown in experts]
    touching = np.concatenate(gaps)
    near = quantile([*touching], spec.near_floor_m) if len(touching) else spec.near_floor_m
    return Limits(
        near=near,
        gripper_speed=fastest([shown.gripper for shown, _ in every]),
        object_speed=fastest([shown.object for shown, _ in every]),
        penetration=quantile([float(shown.penetration.max()) for shown in experts], spec.penetration_floor_m),
        force=quantile([float(shown.force.max()) for shown in experts], spec.force_floor_n),
        untouched=_clip(quantile([untouched_motion(shown, near, spec.path_floor_m) for shown in experts], 0.0)),
        path_floor=spec.path_floor_m,
    )


def instruction_following(spec: InstructionFollowingSpec, shown: Trajectory) -> float:
    """A third each: the gripper reaches the object, the best progress on the way, the progress kept at the end."""
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
    """The maximum for success at the last frame; otherwise the progress there, without the share of success."""
    return 1.0 if shown.succeeds else (1 - spec.success_share) * float(progress(shown)[-1])


def action_outcome(spec: ActionOutcomeSpec, shown: Trajectory, reference: Trajectory) -> float:
    """Deviation of gripper and object from the true outcome of the same actions, against its extent; the worse counts.

    A clip that ends early is held at its last frame: the remaining actions have no outcome in it. A frame without the
    object has lost it wholly.
    """
    held = np.minimum(np.arange(len(reference.gripper)), len(shown.gripper) - 1)

    def loss(path: Floats, truth: Floats) -> float:
        whole = spec.extent_share * max(float(_lengths(truth - truth[0]).max()), spec.floor_m)
        deviation = float(np.nan_to_num(_lengths(path[held] - truth), nan=spec.tolerance_m + whole).mean())
        return _clip((deviation - spec.tolerance_m) / whole)

    return 1 - max(loss(shown.gripper, reference.gripper), loss(shown.object, reference.object))


def _jumps(lengths: Floats, limit: float) -> Floats:
    """0 for a step within the limit to 1 for one of twice the limit."""
    jumps: Floats = np.clip(lengths / limit - 1, 0, 1)
    return jumps


def temporal(spec: TemporalSpec, shown: Trajectory, reference: Trajectory, limits: Limits) -> float:
    """What jumps, detours and stalls leave of the maximum score.

    A detour is travel beyond the true path's: frames out of order go to and fro, even within the speed limit. An object
    that vanishes or comes back jumps.
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
    """What untouched motion beyond the source's own and excessive force leave of the maximum score."""
    ghost = _clip(
        (untouched_motion(shown, limits.near, limits.path_floor) - limits.untouched)
        / max(1 - limits.untouched, STILL_M)
    )
    force = _clip(float(shown.force.max()) / limits.force - 1)
    return _clip((1 - ghost) * (1 - spec.force_share * force))


def physics(spec: PhysicsSpec, shown: Trajectory, limits: Limits) -> float:
    """What penetration beyond the source's own, jumps of the object and its absence leave of the maximum score."""
    depth = _clip(float(shown.penetration.max()) / limits.penetration - 1)
    jumps = float(_jumps(steps(shown.object), limits.object_speed).sum())
    absent = float((~shown.object_visible).mean())
    gone = spec.absent_cost * (1 + absent) / 2 if absent else 0.0
    return _clip(1 - spec.penetration_share * depth - min(spec.jump_cost * jumps, 1 - spec.penetration_share) - gone)


def efficiency(spec: EfficiencySpec, shown: Trajectory) -> float:
    """The maximum up to `slack` times the needed distance (gripper to object to goal), then falling as 1 / path."""
    needed = float(np.linalg.norm(shown.gripper[0] - shown.object[0]) + shown.distance[0])
    path = float(steps(shown.gripper).sum())
    return _clip(spec.slack * needed / max(path, STILL_M))


def share(spec: Labeller, shown: Trajectory, reference: Trajectory, limits: Limits) -> float:
    """The share of the maximum score by one labeller."""
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
    """Raw scores (D,) of a clip that shows the states `shown` (T, 14), the true outcome being `reference` (T', 14)."""
    seen, truth = Trajectory.of(shown), Trajectory.of(reference)
    return np.array([d.max_score * share(d.labeller, seen, truth, limits) for d in spec.dimensions.values()])


def faithful_score(spec: RewardSpec, shown: Float32, reference: Float32, limits: Limits) -> Floats:
    """Raw faithful scores (D,): how far a clip that shows the states `shown` agrees with the true outcome `reference`.

    A dimension loses in proportion to the difference between what is shown and what the same actions truly led to, in
    either direction: a success that is shown and did not happen costs as much as one that happened and is not shown.
    """
    return from_change(spec, score(spec, shown, reference, limits) - score(spec, reference, reference, limits))


def from_change(spec: RewardSpec, change: Floats) -> Floats:
    """Raw faithful scores (D,) for the difference of the absolute scores from those of the true outcome."""
    return np.asarray(np.maximum(np.array(spec.max_scores) - np.abs(change), 0))


def limits_to_json(limits: dict[str, Limits]) -> dict[str, dict[str, float]]:
    """Limits by source, for a JSON file."""
    return {source: asdict(value) for source, value in sorted(limits.items())}


def limits_from_json(value: dict[str, dict[str, float]]) -> dict[str, Limits]:
    """What `limits_to_json` wrote."""
    return {source: Limits(**fields) for source, fields in value.items()}
