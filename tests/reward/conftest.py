from pathlib import Path

import numpy as np
import pytest
import yaml

from roboalign.reward.rubric import Limits, calibrate
from roboalign.reward.spec import RewardSpec
from roboalign.types import Episode, Float32


@pytest.fixture(scope="session")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


@pytest.fixture(scope="session")
def limits(toy_episodes: list[Episode], six: RewardSpec) -> Limits:
    return calibrate(((e.state, e.policy == "expert" and bool(e.success)) for e in toy_episodes), six.calibration)


@pytest.fixture
def push() -> Float32:
    """A made-up success: the gripper comes to the object in 5 frames and carries it to the goal in 10."""
    state = np.zeros((16, 14), np.float32)
    path = np.linspace(0, 0.3, 16)
    state[:, 0] = path
    state[:, 3] = np.maximum(0.1, path)
    state[:, 6] = 0.3
    state[:, 10] = path >= 0.1
    state[:, 11] = 5.0 * state[:, 10]
    state[-1, 13] = 1
    return state
