"""Outcomes of clips against the true outcomes of their actions, in addition to scores: errors, and wrong successes.

The unit of every statistic is the episode: values of several samples of an episode are averaged first.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roboalign.evaluation.spec import EvaluationSpec
from roboalign.metrics.statistics import bootstrap, wilson
from roboalign.types import Json

COLUMNS = ("shown_success", "true_success", "position_error_cm", "psnr")
"""The outcomes of a clip: perceived probabilities of success in its last frame and in that of the true outcome, the
mean position error of gripper and object in cm, and the PSNR against the true frames in dB."""

SHOWN, TRUE = COLUMNS.index("shown_success"), COLUMNS.index("true_success")
ERRORS = ("position_error_cm", "psnr")
RATES = {"false_success": False, "missed_success": True}
"""Rates of clips whose last frame shows the opposite of the true outcome, and the true outcome that they are about."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of N clips; row i is of `episodes[i]`, `samples[i]`."""

    episodes: tuple[str, ...]
    samples: tuple[int, ...]
    values: Values
    """(N, 4), columns COLUMNS; NaN if unknown, as all but PSNR are if the source has no states."""

    @classmethod
    def concatenate(cls, parts: Sequence["Outcomes"]) -> "Outcomes":
        """The outcomes of the clips of all parts, in their order."""
        return cls(
            tuple(episode for part in parts for episode in part.episodes),
            tuple(sample for part in parts for sample in part.samples),
            np.concatenate([part.values for part in parts]),
        )

    def by_episode(self) -> dict[str, dict[str, float]]:
        """Position error, PSNR, and rates of false and missed success by episode: {measure: {episode: value}}.

        False success: the last frame shows success, but the true outcome fails; missed success: the reverse. Each is
        about the episodes with that true outcome only. Measures without an episode are left out.
        """
        groups: dict[str, dict[str, list[float]]] = {}
        for episode, row in zip(self.episodes, self.values, strict=True):
            measured = {name: float(row[COLUMNS.index(name)]) for name in ERRORS}
            if np.isfinite(row[TRUE]):
                truth = bool(row[TRUE] > 0.5)
                measured |= {
                    name: float((row[SHOWN] > 0.5) != truth) for name, about in RATES.items() if about == truth
                }
            for name, value in measured.items():
                if np.isfinite(value):
                    groups.setdefault(name, {}).setdefault(episode, []).append(value)
        return {
            name: {episode: float(np.mean(groups[name][episode])) for episode in sorted(groups[name])}
            for name in (*ERRORS, *RATES)
            if name in groups
        }

    def select(self, rows: Sequence[int]) -> "Outcomes":
        """The outcomes of the given rows."""
        chosen = list(rows)
        return Outcomes(
            tuple(self.episodes[row] for row in chosen), tuple(self.samples[row] for row in chosen), self.values[chosen]
        )


def outcome_summary(outcomes: Outcomes, spec: EvaluationSpec) -> dict[str, Json]:
    """The means of one clip set, {measure: {mean, low, high, n}}; rates have Wilson intervals."""
    result: dict[str, Json] = {}
    for name, by_episode in outcomes.by_episode().items():
        values = list(by_episode.values())
        result[name] = (wilson(values) if name in RATES else bootstrap(values, spec.draws, spec.seed)).json()
    return result


def outcome_gains(model: Outcomes, against: Outcomes) -> dict[str, dict[str, float]]:
    """Paired differences, `model` minus `against`, by measure and episode, for the episodes that both have."""
    ours, theirs = model.by_episode(), against.by_episode()
    return {
        name: {episode: value - theirs[name][episode] for episode, value in values.items() if episode in theirs[name]}
        for name, values in ours.items()
        if name in theirs
    }


def outcome_difference(model: Outcomes, against: Outcomes, spec: EvaluationSpec) -> dict[str, Json]:
    """Paired differences over episodes, {measure: {mean, low, high, n}}; absent if they share fewer than two."""
    return {
        name: bootstrap(list(gains.values()), spec.draws, spec.seed).json()
        for name, gains in outcome_gains(model, against).items()
        if len(gains) > 1
    }


def outcome_rows(sets: Mapping[str, Outcomes]) -> list[dict[str, object]]:
    """One row for each clip: model, episode, sample, and COLUMNS; unknown outcomes are empty."""
    return [
        {"model": name, "episode": episode, "sample": sample}
        | {column: float(value) if np.isfinite(value) else "" for column, value in zip(COLUMNS, row, strict=True)}
        for name, one in sets.items()
        for episode, sample, row in zip(one.episodes, one.samples, one.values, strict=True)
    ]


def read_outcomes(table: str) -> dict[str, Outcomes]:
    """Read the outcomes of each clip set from the text of a table of `outcome_rows`."""
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(table), delimiter="\t"):
        groups.setdefault(row["model"], []).append(row)
    return {name: _from_rows(rows) for name, rows in groups.items()}


def _from_rows(rows: Sequence[Mapping[str, str]]) -> Outcomes:
    """The outcomes of the rows of one clip set."""
    values = np.array([[float(row[name] or "nan") for name in COLUMNS] for row in rows])
    return Outcomes(tuple(row["episode"] for row in rows), tuple(int(row["sample"]) for row in rows), values)
