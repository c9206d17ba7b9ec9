"""Classifies action dimensions as displacements, velocities, positions or switches. Pure functions.

The meaning determines how a stride combines the skipped actions: displacements are summed, velocities are averaged, and
of absolute positions and switches the last one is used. The evidence is, in this order: the name of the dimension, its
correlation with recorded states, and its values.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from roboalign.types import Float32

Meaning = Literal["displacement", "velocity", "position", "switch"]
SKIPPED: dict[Meaning, Literal["sum", "mean", "last"]] = {
    "displacement": "sum",
    "velocity": "mean",
    "position": "last",
    "switch": "last",
}
"""Value of the spec field `skipped` for each meaning."""
WORDS: dict[Meaning, str] = {
    "displacement": "displacements",
    "velocity": "velocities",
    "position": "absolute positions",
    "switch": "switches",
}

_NAMES: dict[Meaning, re.Pattern[str]] = {
    "switch": re.compile(r"gripper|terminat|suction|vacuum|(^|[_./])(mode|done)([_./]|$)", re.IGNORECASE),
    "displacement": re.compile(r"delta|displacement|increment|(^|[_./])(rel|relative)([_./]|$)", re.IGNORECASE),
    "velocity": re.compile(r"(^|[_./])(q?vel|velocity|velocities|speed)([_./]|$)", re.IGNORECASE),
    "position": re.compile(
        r"\.pos$|(^|[_./])(q?pos|positions?|poses?|abs|absolute|targets?|angles?)([_./]|$)", re.IGNORECASE
    ),
}
"""Name patterns of each meaning; the first match decides."""

STATE = re.compile(r"state|proprio|qpos|joint|pose|position|robot_obs|(^|[_./])ee", re.IGNORECASE)
"""Names of columns that may contain the state of the robot or the scene."""
STATES, STATE_WIDTH = 8, 64
"""Largest number of state columns that actions are compared with, and largest width of each."""

FOLLOWS = 0.9
"""Smallest correlation of an action with the current or next state for an absolute position."""
MOVES = 0.8
"""Smallest correlation of an action with the change of the state for a displacement."""
STEPS = 20
"""Smallest number of steps for a correlation."""
SMOOTH = 0.06
"""Largest median step of an absolute position, as a fraction of its range."""
AWAY = 0.2
"""Smallest median absolute value of an absolute position, as a fraction of its range; displacements are centred at
zero."""
RESTING, AT_ENDS = 0.85, 0.8
"""Smallest fraction of steps without motion, and of values at either end of the range, for a switch."""


@dataclass(frozen=True, slots=True)
class DimensionMeaning:
    """Meaning of one action dimension, with its evidence."""

    meaning: Meaning
    reason: str
    """Evidence for the meaning; empty if there is none and the dimension is treated as a displacement."""
    certain: bool = False
    """Whether the evidence is a name, a state, or the small number of values of a switch, rather than the shape of the
    signal alone."""


@dataclass(frozen=True, slots=True)
class EpisodeVectors:
    """Recorded actions (T, A) of an episode before the stride, and its states by column, each (T, width)."""

    actions: Float32
    states: Mapping[str, Float32]


def classify_dimensions(
    episodes: Sequence[EpisodeVectors], keys: Sequence[str], names: Sequence[str]
) -> tuple[DimensionMeaning, ...]:
    """Return the meaning of each action dimension.

    Args:
        episodes: some episodes, with actions of the same width.
        keys: the column of each dimension.
        names: the data set's name of each dimension; empty if it has none.
    """
    if not episodes:
        return ()
    values = np.concatenate([each.actions for each in episodes]).astype(np.float64)
    from_states = meanings_of_states(episodes)
    candidates: list[DimensionMeaning | None] = []
    for index, (key, name) in enumerate(zip(keys, names, strict=True)):
        count = len(np.unique(values[:, index]))
        meaning = meaning_of_name(name) or meaning_of_name(key) or meaning_of_count(count) or from_states[index]
        if meaning is None and count > 1:
            meaning = meaning_of_signal([each.actions[:, index] for each in episodes])
        candidates.append(meaning)
    return tuple(decide_meanings(candidates, keys))


def meaning_of_name(name: str) -> DimensionMeaning | None:
    """Return the meaning that a name implies, or None."""
    for meaning, pattern in _NAMES.items():
        if pattern.search(name):
            return DimensionMeaning(meaning, f"the name {name}", certain=True)
    return None


def meaning_of_count(count: int) -> DimensionMeaning | None:
    """Return "switch" for a dimension with two or three distinct values, else None."""
    words = {2: "two", 3: "three"}
    if count not in words:
        return None
    return DimensionMeaning("switch", f"it has {words[count]} values", certain=True)


def meanings_of_states(episodes: Sequence[EpisodeVectors]) -> list[DimensionMeaning | None]:
    """Return, for each action dimension, "position" if it follows a state, "displacement" if it changes one, else
    None."""
    width = episodes[0].actions.shape[1]
    names = set.intersection(*(set(each.states) for each in episodes))
    best_level, best_change = np.zeros(width), np.zeros(width)
    followed = [""] * width
    for name in sorted(names):
        pairs = [(each.actions, each.states[name]) for each in episodes if len(each.actions) > 1]
        if not pairs or len({states.shape[1] for _, states in pairs}) > 1:
            continue
        actions = np.concatenate([actions[:-1] for actions, _ in pairs])
        # A target may be reached within the step, or be the state itself.
        now = correlation(actions, np.concatenate([states[:-1] for _, states in pairs]))
        level = np.maximum(now, correlation(actions, np.concatenate([states[1:] for _, states in pairs])))
        change = correlation(actions, np.concatenate([np.diff(states, axis=0) for _, states in pairs]))
        for index in range(width):
            if level[index].max() > best_level[index]:
                best_level[index] = level[index].max()
                followed[index] = f"{name}[{level[index].argmax()}]"
            best_change[index] = max(best_change[index], change[index].max())
    result: list[DimensionMeaning | None] = []
    for level_of, change_of, name in zip(best_level, best_change, followed, strict=True):
        if level_of >= FOLLOWS and level_of > change_of:
            result.append(DimensionMeaning("position", f"it follows {name}", certain=True))
        elif change_of >= MOVES and change_of > level_of:
            result.append(DimensionMeaning("displacement", "it moves the state", certain=True))
        else:
            result.append(None)
    return result


def correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return correlations (A, B) of the columns of two arrays (T, A) and (T, B).

    They are 0 for constant columns, and if T is less than STEPS.
    """
    if len(first) < STEPS:
        return np.zeros((first.shape[1], second.shape[1]))

    def standardise(values: NDArray[np.float32]) -> NDArray[np.float64]:
        centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
        scale = centred.std(0)
        scaled: NDArray[np.float64] = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 1e-9)
        return scaled

    return np.asarray(standardise(first).T @ standardise(second) / len(first))


def meaning_of_signal(episodes: Sequence[Float32]) -> DimensionMeaning | None:
    """Return the meaning that the values of one dimension imply, or None.

    A switch rests at the ends of its range. An absolute position changes by small steps and is away from zero.
    """
    values = np.concatenate(episodes).astype(np.float64)
    low, high = np.quantile(values, [0.01, 0.99])
    width = high - low
    steps = [np.abs(np.diff(each.astype(np.float64))) for each in episodes if len(each) > 1]
    if width <= 0 or not steps:
        return None
    step = np.concatenate(steps)
    at_low, at_high = (values <= low + 0.05 * width).mean(), (values >= high - 0.05 * width).mean()
    resting = float((step <= 0.02 * width).mean())
    if resting >= RESTING and at_low + at_high >= AT_ENDS and min(at_low, at_high) >= 0.05:
        return DimensionMeaning("switch", "it rests at the ends of its range")
    if np.median(step) <= SMOOTH * width and np.median(np.abs(values)) >= AWAY * width:
        return DimensionMeaning("position", "its steps are small against its range, which is away from zero")
    return None


def decide_meanings(candidates: Sequence[DimensionMeaning | None], keys: Sequence[str]) -> list[DimensionMeaning]:
    """Complete the meanings by column: an uncertain dimension is a position only if at least half of its column is."""
    result: list[DimensionMeaning] = []
    for key, run in groupby(range(len(keys)), keys.__getitem__):
        column = [candidates[index] for index in run]
        others = [each for each in column if each is None or each.meaning != "switch"]
        positions = [each for each in others if each and each.meaning == "position"]
        absolute = len(positions) >= max(1, len(others) / 2)
        for each in column:
            if each and (each.certain or each.meaning == "switch"):
                result.append(each)
            elif absolute:
                result.append(each or DimensionMeaning("position", f"most of {key} are positions"))
            else:
                result.append(DimensionMeaning("displacement", ""))
    return result


def explain(meanings: Sequence[DimensionMeaning], labels: Sequence[str]) -> list[str]:
    """Return one sentence for each run of dimensions with the same meaning and any evidence, with up to two reasons."""
    sentences = []
    for meaning, run in groupby(range(len(meanings)), lambda index: meanings[index].meaning):
        indices = list(run)
        reasons = list(dict.fromkeys(meanings[number].reason for number in indices if meanings[number].reason))
        if reasons:
            further = f" and {len(reasons) - 2} more" if len(reasons) > 2 else ""
            evidence = "; ".join(reasons[:2]) + further
            sentences.append(f"{abbreviate([labels[number] for number in indices])}: {WORDS[meaning]} ({evidence})")
    return sentences


def abbreviate(labels: Sequence[str]) -> str:
    """Format labels: all of up to three, otherwise the first and the last."""
    return ", ".join(labels) if len(labels) <= 3 else f"{labels[0]} to {labels[-1]}"
