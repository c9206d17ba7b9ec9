from pathlib import Path

import numpy as np
import pytest
import yaml
from probe_fakes import seen_episode, state_of

from roboalign.probe.gold import Gold
from roboalign.probe.model import Probe
from roboalign.probe.spec import ProbeSpec
from roboalign.reward.rubric import calibrate
from roboalign.reward.spec import RewardSpec
from roboalign.types import STATE_NAMES, Float32, UInt8

TASK = ("seen", "push")


@pytest.fixture(scope="module")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


def number_of(frames: UInt8) -> int:
    return int(frames[0, 0, 0, 0])


class ExactProbe(Probe):
    """Sees exactly: a clip's first pixel is the number of its episode."""

    def __init__(self) -> None:
        spec = {"training": {"steps": 1, "batch": 2, "learning_rate": 0.1}}
        super().__init__(ProbeSpec.model_validate(spec), [TASK], (4, 4))

    def states(self, source: str, task: str, frames: UInt8) -> Float32:
        assert (source, task) == TASK
        return np.stack([state_of(seen_episode(number_of(clip))) for clip in frames])


def clip(number: int) -> UInt8:
    return np.full((10, 4, 4, 3), number, np.uint8)


@pytest.fixture(scope="module")
def gold(six: RewardSpec) -> Gold:
    limits = calibrate([(state_of(seen_episode(number)), number % 2 == 0) for number in range(10)], six.calibration)
    return Gold(ExactProbe(), six, {"seen": limits, "real": limits})


def test_the_true_outcome_has_full_marks_where_it_succeeds(gold: Gold, six: RewardSpec) -> None:
    solved = [n for n in range(0, 10, 2) if state_of(seen_episode(n))[-1, STATE_NAMES.index("success")] > 0.5]
    clips = [clip(number) for number in solved]
    assert gold([TASK] * len(clips), clips, clips).sum(1).min() > 0.9 * sum(six.maxima)


def test_another_outcome_than_the_true_one_costs_marks(gold: Gold, six: RewardSpec) -> None:
    own, other = gold([TASK] * 2, [clip(2), clip(3)], [clip(2), clip(2)])
    place = six.names.index("action_outcome_consistency")
    assert other[place] < own[place]
    assert other.sum() < own.sum()


def test_nothing_is_said_of_sources_without_states(gold: Gold) -> None:
    scores = gold([("real", "push"), TASK], [clip(1), clip(2)], [clip(1), clip(2)])
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()
    assert not gold.covers(("real", "push")), "the probe does not know it"
    assert not Gold(gold.probe, gold.reward, {}).covers(TASK), "without limits there is no rubric"
