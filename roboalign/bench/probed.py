"""Labels of generated clips by the states that a probe sees in them.

The probe errs, on true frames too, and its errors must cost no marks. So a generated clip is compared with what the
same probe sees in the true future of the same actions, never with the recorded states; the rubric's limits are those
of probed true clips; and a difference of scores that it also finds between a true clip and its reconstruction is none:

    label = score(true states) + shrink(score(seen in the clip) - score(seen in the true future), slack)

(a difference of the maximum score stays one, see `shrink`).

A probe that sees too little of what happens in true clips is not asked at all. A clip that equals the true future gets
its exact score. One that shows a success that the actions did not bring gains the marks of success, and loses those of
action-outcome consistency. Of what it cannot see, the looks of bodies and the dimensions that it confuses, the distance
from the true future tells instead, see `with_distance`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from roboalign.bench.spec import GeneratedSpec
from roboalign.reward.rubric import OBJECT, Floats, Limits, calibrate, from_change, score
from roboalign.reward.spec import RewardSpec
from roboalign.types import STATE_NAMES, Float32, UInt8

GRIPPER = slice(STATE_NAMES.index("gripper_x"), STATE_NAMES.index("gripper_z") + 1)
"""The gripper's position among the columns of a state."""


class ProbeFn(Protocol):
    """A state probe."""

    def __call__(self, source: str, task: str, frames: UInt8) -> Float32:
        """The states (N, T, 14), columns STATE_NAMES, that clips (N, T, H, W, 3) of a source's task show."""
        ...


@dataclass(frozen=True, slots=True)
class ProbeCalibration:
    """How a probe sees the true clips of one source."""

    limits: Limits
    """The rubric's limits, from probed clips; at least those from recorded states."""
    slack: Floats
    """(D,): raw score that the probe's own errors change."""
    clips: int
    """Clips that this was measured on."""
    share: float
    """Share of the variance of the places of gripper and object, within a task, that it sees in true clips, the lesser
    of the two: 1 for a probe without errors, 0 or less for one that always answers the same."""


@dataclass(frozen=True, slots=True)
class TrueClip:
    """A recorded clip, by its states (T, 14)."""

    task: str
    seen: Float32
    """What the probe sees."""
    again: Float32 | None
    """What it sees in the same clip as the tokenizer gives it back; None where there is no tokenizer."""
    state: Float32
    """What was."""
    success: bool
    """Whether it is of an expert's success."""


def explained_variance(clips: Sequence[TrueClip]) -> float:
    """Share of the variance of gripper's and object's positions, within a task, that the probe explains, the lesser of
    the two; see ProbeCalibration."""
    found: list[float] = []
    for part in (GRIPPER, OBJECT):
        error = spread = 0.0
        for task in {clip.task for clip in clips}:
            true = np.concatenate([clip.state[:, part] for clip in clips if clip.task == task]).astype(np.float64)
            seen = np.concatenate([clip.seen[:, part] for clip in clips if clip.task == task]).astype(np.float64)
            error += float(((seen - true) ** 2).sum())
            spread += float(((true - true.mean(0)) ** 2).sum())
        found.append(1 - error / max(spread, 1e-12))
    return min(found)


def calibrate_probe(
    spec: RewardSpec, clips: Sequence[TrueClip], known: Sequence[TrueClip], limits: Limits, quantile: float
) -> ProbeCalibration:
    """Limits and slack of a source from clips that the probe was not trained on; its share of the variance from these
    and some `known` ones that it was trained on, as a few clips vary too little.

    The slack of a dimension is the `quantile` of what a comparison finds between a clip and itself as the tokenizer
    gives it back: all that a world model could do right, seen as its frames look. Without a tokenizer it is that of
    what the probe's errors change in the score of a true clip, times the square root of 2: in a comparison of two clips
    it errs twice. Raises ValueError without clips.
    """
    looks = [(state, clip.success) for clip in clips for state in (clip.seen, clip.again) if state is not None]
    probed = calibrate(looks, spec.calibration)
    loose = Limits(
        **{name: max(getattr(limits, name), getattr(probed, name)) for name in Limits.__slots__},
    )
    changes = [_false_change(spec, clip, loose, limits) for clip in clips]
    slack = np.asarray(np.quantile(changes, quantile, axis=0))
    return ProbeCalibration(loose, slack, len(clips), explained_variance([*clips, *known]))


def _false_change(spec: RewardSpec, clip: TrueClip, loose: Limits, limits: Limits) -> Floats:
    """What the probe takes for a difference where there is none, (D,), at least 0."""
    if clip.again is not None:
        return np.abs(score(spec, clip.again, clip.seen, loose) - score(spec, clip.seen, clip.seen, loose))
    true = score(spec, clip.state, clip.state, limits)
    return np.asarray(np.sqrt(2) * np.abs(score(spec, clip.seen, clip.state, loose) - true))


def shrink(values: Floats, slack: Floats, maxima: Floats) -> Floats:
    """Differences of scores (D,) without their slack: none up to it, and from there on in proportion, so that a
    difference of the maximum score (`maxima`) stays one. Where the slack is the maximum score, nothing is left."""
    room = np.maximum(maxima - slack, 1e-12)
    beyond = np.where(slack < maxima, np.maximum(np.abs(values) - slack, 0) * maxima / room, 0)
    return np.asarray(np.sign(values) * beyond)


def with_distance(
    spec: RewardSpec, rule: GeneratedSpec, probed: Floats, distant: Floats, own: ProbeCalibration
) -> Floats:
    """Scores (D,) by the probe, `probed`, and by the rule of distances, `distant`: the latter where the probe is blind,
    the lower one where looks matter, else the probe's."""
    blind = own.slack > rule.blind * np.array(spec.max_scores)
    looks = np.array([dimension.labeller.kind in rule.looks for dimension in spec.dimensions.values()])
    return np.where(blind, distant, np.where(looks, np.minimum(probed, distant), probed))


def probed_change(spec: RewardSpec, seen: Float32, future: Float32, own: ProbeCalibration) -> Floats:
    """The difference (D,) of the scores of a generated clip, in which the probe sees `seen` (T, 14), from those of the
    true future of the same actions, in which it sees `future` (T, 14)."""
    return score(spec, seen, future, own.limits) - score(spec, future, future, own.limits)


def label_probed(spec: RewardSpec, change: Floats, state: Float32, limits: Limits) -> tuple[Floats, Floats]:
    """Absolute and faithful scores (D,) of a generated clip whose scores differ by `change` from those of the true
    future of the same actions, whose states are `state` (T, 14)."""
    absolute = np.clip(score(spec, state, state, limits) + change, 0, spec.max_scores)
    return np.asarray(absolute), from_change(spec, change)
