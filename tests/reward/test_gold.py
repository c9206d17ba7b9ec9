from pathlib import Path

import numpy as np
import pytest
import yaml

from roboalign.probe.model import Probe
from roboalign.probe.spec import PerceptionSpec
from roboalign.reward.dimensions import ABSOLUTE, FAITHFUL
from roboalign.reward.gold import Gold
from roboalign.reward.rubric import calibrate
from roboalign.reward.spec import RewardSpec
from roboalign.types import STATE_NAMES, Float32, UInt8
from tests.probe.probe_fakes import seen_episode, state_of

TASK = ("seen", "push")


@pytest.fixture(scope="module")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


def number_of(frames: UInt8) -> int:
    return int(frames[0, 0, 0, 0])


class ExactProbe(Probe):
    """Sees exactly: a clip's first pixel is the number of its episode."""

    def __init__(self) -> None:
        super().__init__(PerceptionSpec(widths=(8, 8), hidden_size=8), [TASK], (4, 4))

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
    scores = gold([TASK] * len(clips), clips, clips)
    assert scores.shape == (len(solved), 2, len(six.dimensions))
    assert scores[:, ABSOLUTE].sum(1).min() > 0.9 * six.max_total
    assert (scores[:, FAITHFUL] == np.array(six.max_scores)).all()


def test_another_outcome_than_the_true_one_costs_marks(gold: Gold, six: RewardSpec) -> None:
    own, other = gold([TASK] * 2, [clip(2), clip(3)], [clip(2), clip(2)])
    place = six.names.index("action_outcome_consistency")
    assert (other[:, place] < own[:, place]).all()
    assert (other.sum(1) < own.sum(1)).all()


def test_a_failure_that_the_actions_truly_led_to_is_faithful(gold: Gold, six: RewardSpec) -> None:
    (scores,) = gold([TASK], [clip(3)], [clip(3)])
    assert scores[ABSOLUTE].sum() < 0.9 * six.max_total
    assert scores[FAITHFUL].tolist() == list(six.max_scores)


def test_outcomes_are_perceived_success_and_the_distance_of_places(gold: Gold) -> None:
    _, outcomes = gold.measure([TASK, ("real", "push"), TASK], [clip(2), clip(1), clip(3)], [clip(2)] * 3)
    shown, true = state_of(seen_episode(3)), state_of(seen_episode(2))
    column = STATE_NAMES.index("success")
    apart = [100 * np.linalg.norm(shown[:, part] - true[:, part], axis=1) for part in (slice(0, 3), slice(3, 6))]
    assert outcomes[0].tolist() == [true[-1, column], true[-1, column], 0]
    assert outcomes[2] == pytest.approx([shown[-1, column], true[-1, column], np.mean(apart)], rel=1e-5)
    assert np.isnan(outcomes[1]).all()


def test_nothing_is_said_of_sources_without_states(gold: Gold) -> None:
    scores = gold([("real", "push"), TASK], [clip(1), clip(2)], [clip(1), clip(2)])
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()
    assert not gold.covers(("real", "push")), "the probe does not know it"
    assert not Gold(gold.probe, gold.reward, {}).covers(TASK), "without limits there is no rubric"
