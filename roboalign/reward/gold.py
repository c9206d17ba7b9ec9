"""The gold scorer: the rubric over the states that the gold probe perceives in a rollout and in its true outcome.

It is not used in training any model that it scores. The probe also errs on true frames, and a rollout must not lose
points for that. The true outcome of the same actions is therefore perceived by the same probe, and the rubric's limits
come from probed true clips. The score of a true clip, which probe noise can lower, is the ceiling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from roboalign.probe.data import Task
from roboalign.probe.model import Probe
from roboalign.reward.rubric import Floats, Limits, from_change, score
from roboalign.reward.spec import RewardSpec
from roboalign.types import STATE_NAMES, UInt8

_SUCCESS = STATE_NAMES.index("success")


@dataclass(frozen=True)
class Gold:
    """Scores clips of tasks that the probe covers and whose sources have rubric limits; NaN for all other clips."""

    probe: Probe
    reward: RewardSpec
    limits: Mapping[str, Limits]
    """The rubric's limits of each source, from probed true clips."""

    def covers(self, task: Task) -> bool:
        """Whether clips of this (source, task) can be scored."""
        return task[0] in self.limits and self.probe.covers(*task)

    def __call__(self, tasks: Sequence[Task], clips: Sequence[UInt8], truths: Sequence[UInt8]) -> Floats:
        """Raw scores (N, 2, D), absolute and faithful, of N clips (T, H, W, 3) with the true outcomes `truths`.

        Rows of tasks that are not covered, such as those of real robots, are NaN.
        """
        return self.measure(tasks, clips, truths)[0]

    def measure(self, tasks: Sequence[Task], clips: Sequence[UInt8], truths: Sequence[UInt8]) -> tuple[Floats, Floats]:
        """Scores as in `__call__`, and outcomes (N, 3).

        Outcomes are the perceived probability of success in the last frame of the clip and of its true outcome, and the
        mean distance of gripper and object from their true positions, in cm.
        """
        scores = np.full((len(clips), 2, len(self.reward.dimensions)), np.nan)
        outcomes = np.full((len(clips), 3), np.nan)
        for task in sorted(set(tasks)):
            if not self.covers(task):
                continue
            rows = [row for row, clip_task in enumerate(tasks) if clip_task == task]
            shown = self.probe.states(*task, np.stack([clips[row] for row in rows]))
            truth = self.probe.states(*task, np.stack([truths[row] for row in rows]))
            # Columns 0 to 5 are the positions of gripper and object in metres.
            offsets = (shown - truth)[..., :6].reshape(*shown.shape[:2], 2, 3)
            distance_cm = 100 * np.linalg.norm(offsets, axis=-1).mean((1, 2))
            outcomes[rows] = np.stack([shown[:, -1, _SUCCESS], truth[:, -1, _SUCCESS], distance_cm], 1)
            for index, row in enumerate(rows):
                absolute = score(self.reward, shown[index], truth[index], self.limits[task[0]])
                ceiling = score(self.reward, truth[index], truth[index], self.limits[task[0]])
                scores[row] = absolute, from_change(self.reward, absolute - ceiling)
        return scores, outcomes
