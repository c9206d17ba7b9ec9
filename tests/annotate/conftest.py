from pathlib import Path

import pytest
import yaml

from roboalign.reward.spec import RewardSpec


@pytest.fixture(scope="session")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))
