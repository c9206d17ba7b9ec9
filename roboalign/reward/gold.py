"""The gold scorer: the rubric over the states that the probe sees in a rollout, against the true outcome.

It took no part in training any model that it scores. The probe errs on true frames too, and these errors are no fault
of a rollout: so the true outcome of the same actions is seen through the same probe, and the rubric's limits are those
of probed true clips. A true clip's own score, below the maximum where the probe's jitter costs some, is the ceiling.
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
    """Scores clips of the tasks that the probe covers and whose sources have limits; nothing is said of others."""

    probe: Probe
    reward: RewardSpec
    limits: Mapping[str, Limits]
    """The rubric's limits of each source, from probed true clips."""

    def covers(self, task: Task) -> bool:
        """Whether clips of this source and task can be scored."""
        return task[0] in self.limits and self.probe.covers(*task)

    def __call__(self, tasks: Sequence[Task], clips: Sequence[UInt8], truths: Sequence[UInt8]) -> Floats:
        """Raw scores (N, 2, D), absolute and faithful, of clips (T, H, W, 3) whose true outcomes are `truths`.

        A row is NaN if its source has no states, as real robots.
        """
        return self.measure(tasks, clips, truths)[0]

    def measure(self, tasks: Sequence[Task], clips: Sequence[UInt8], truths: Sequence[UInt8]) -> tuple[Floats, Floats]:
        """The scores as `__call__`, and outcomes (N, 3): the perceived probability of success in the last frame of a
        clip and of its true outcome, and the mean distance in centimetres of gripper and object from where the true
        outcome has them."""
        scores = np.full((len(clips), 2, len(self.reward.dimensions)), np.nan)
        outcomes = np.full((len(clips), 3), np.nan)
        for task in sorted(set(tasks)):
            if not self.covers(task):
                continue
            rows = [row for row, own in enumerate(tasks) if own == task]
            seen = self.probe.states(*task, np.stack([clips[row] for row in rows]))
            truth = self.probe.states(*task, np.stack([truths[row] for row in rows]))
            apart = 100 * np.linalg.norm((seen - truth)[..., :6].reshape(*seen.shape[:2], 2, 3), axis=-1).mean((1, 2))
            outcomes[rows] = np.stack([seen[:, -1, _SUCCESS], truth[:, -1, _SUCCESS], apart], 1)
            for place, row in enumerate(rows):
                absolute = score(self.reward, seen[place], truth[place], self.limits[task[0]])
                true = score(self.reward, truth[place], truth[place], self.limits[task[0]])
                scores[row] = absolute, from_change(self.reward, absolute - true)
        return scores, outcomes
