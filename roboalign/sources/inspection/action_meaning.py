"""The meaning of each action dimension, which determines how a stride combines skipped actions. Pure functions.

Displacements add up over the steps that a stride skips, velocities are averaged, and of absolute targets and switches
the last one counts. A dimension's meaning is told by its name, by the recorded states that it follows or moves, and by
its values; in this order.
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
"""The treatment of actions that a stride skips, by their meaning."""
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
"""Which names tell the meaning; the first one that matches counts."""

STATE = re.compile(r"state|proprio|qpos|joint|pose|position|robot_obs|(^|[_./])ee", re.IGNORECASE)
"""Names of columns that may hold the robot's or the world's state."""
STATES, STATE_WIDTH = 8, 64
"""Columns of states that actions are compared with at most, and the dimensions of one."""

FOLLOWS = 0.9
"""Correlation of actions with the state, or the next one, from which on they are absolute."""
MOVES = 0.8
"""Correlation of actions with the change of the state from which on they are displacements."""
STEPS = 20
"""Steps that a correlation needs at least."""
SMOOTH = 0.06
"""Median step of an absolute target as a share of its range, at most."""
AWAY = 0.2
"""Median distance from zero of an absolute target as a share of its range, at least; displacements lie around zero."""
RESTING, AT_ENDS = 0.85, 0.8
"""Share of steps at rest, and of values at either end of the range, from which on a dimension is a switch."""


@dataclass(frozen=True, slots=True)
class DimensionMeaning:
    """The meaning of one dimension of the actions."""

    meaning: Meaning
    reason: str
    """The evidence; empty if there is none, and the dimension counts as a displacement."""
    certain: bool = False
    """Whether a name, a state, or the few values of a switch tell it, rather than the course of its values alone."""


@dataclass(frozen=True, slots=True)
class EpisodeVectors:
    """The recorded actions (T, A) of an episode, before the stride, and its states by column, each (T, width)."""

    actions: Float32
    states: Mapping[str, Float32]


def classify_dimensions(
    episodes: Sequence[EpisodeVectors], keys: Sequence[str], names: Sequence[str]
) -> tuple[DimensionMeaning, ...]:
    """The meaning of each dimension of the actions.

    Args:
        episodes: some episodes, with actions of the same width.
        keys: for each dimension, the column that it is of.
        names: for each dimension, the data set's own name; empty if it has none.
    """
    if not episodes:
        return ()
    values = np.concatenate([each.actions for each in episodes]).astype(np.float64)
    followed = relation_to_states(episodes)
    found: list[DimensionMeaning | None] = []
    for index, (key, name) in enumerate(zip(keys, names, strict=True)):
        few = len(np.unique(values[:, index]))
        told = by_name(name) or by_name(key) or by_values(few) or followed[index]
        found.append(told if told or few == 1 else by_course([each.actions[:, index] for each in episodes]))
    return tuple(decide_meanings(found, keys))


def by_name(name: str) -> DimensionMeaning | None:
    """The meaning that a name implies; None if it implies none."""
    for meaning, pattern in _NAMES.items():
        if pattern.search(name):
            return DimensionMeaning(meaning, f"the name {name}", certain=True)
    return None


def by_values(different: int) -> DimensionMeaning | None:
    """A switch, if a dimension has two or three different values."""
    words = {2: "two", 3: "three"}
    if different not in words:
        return None
    return DimensionMeaning("switch", f"it has {words[different]} values", certain=True)


def relation_to_states(episodes: Sequence[EpisodeVectors]) -> list[DimensionMeaning | None]:
    """For each action dimension: a position if it follows a state, a displacement if it moves one, None if neither."""
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
    """(A, B) correlations of columns over rows; 0 for columns that never vary, and if there are too few rows."""
    if len(first) < STEPS:
        return np.zeros((first.shape[1], second.shape[1]))

    def standardise(values: NDArray[np.float32]) -> NDArray[np.float64]:
        centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
        scale = centred.std(0)
        scaled: NDArray[np.float64] = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 1e-9)
        return scaled

    return np.asarray(standardise(first).T @ standardise(second) / len(first))


def by_course(episodes: Sequence[Float32]) -> DimensionMeaning | None:
    """The meaning that the values of one dimension imply: a switch rests at one end of its range or the other, an
    absolute target moves by small steps and lies away from zero."""
    values = np.concatenate(episodes).astype(np.float64)
    low, high = np.quantile(values, [0.01, 0.99])
    span = high - low
    steps = [np.abs(np.diff(each.astype(np.float64))) for each in episodes if len(each) > 1]
    if span <= 0 or not steps:
        return None
    step = np.concatenate(steps)
    at_low, at_high = (values <= low + 0.05 * span).mean(), (values >= high - 0.05 * span).mean()
    resting = float((step <= 0.02 * span).mean())
    if resting >= RESTING and at_low + at_high >= AT_ENDS and min(at_low, at_high) >= 0.05:
        return DimensionMeaning("switch", "it rests at the ends of its range")
    if np.median(step) <= SMOOTH * span and np.median(np.abs(values)) >= AWAY * span:
        return DimensionMeaning("position", "its steps are small against its range, which lies away from zero")
    return None


def decide_meanings(found: Sequence[DimensionMeaning | None], keys: Sequence[str]) -> list[DimensionMeaning]:
    """The meanings, if need be by the column: an uncertain dimension is a position only if half of its column is."""
    result: list[DimensionMeaning] = []
    for key, run in groupby(range(len(keys)), keys.__getitem__):
        column = [found[index] for index in run]
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
    """A sentence for each run of dimensions of one meaning that anything tells, with the reasons."""
    sentences = []
    for meaning, run in groupby(range(len(meanings)), lambda index: meanings[index].meaning):
        places = list(run)
        reasons = list(dict.fromkeys(meanings[place].reason for place in places if meanings[place].reason))
        if reasons:
            more = f" and {len(reasons) - 2} more" if len(reasons) > 2 else ""
            told = "; ".join(reasons[:2]) + more
            sentences.append(f"{span_of([labels[place] for place in places])}: {WORDS[meaning]} ({told})")
    return sentences


def span_of(labels: Sequence[str]) -> str:
    """Some labels in words: all of a few, the first and the last of many."""
    return ", ".join(labels) if len(labels) <= 3 else f"{labels[0]} to {labels[-1]}"
