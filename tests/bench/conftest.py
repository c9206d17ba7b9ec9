from pathlib import Path

import numpy as np
import pytest
import yaml

from roboalign.bench.labeller import PairLabeller
from roboalign.bench.spec import BenchSpec
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus


@pytest.fixture(scope="session")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


@pytest.fixture(scope="session")
def corpus(toy_episodes) -> Corpus:
    return Corpus.of(toy_episodes)


@pytest.fixture(scope="session")
def small() -> BenchSpec:
    return BenchSpec.model_validate(
        {"pairs": 80, "min_frames": 5, "max_frames": 12, "generated": {"frames": 4, "batch_size": 3}}
    )


@pytest.fixture(scope="session")
def labeller(corpus, small, six) -> PairLabeller:
    return PairLabeller.of(corpus, small, six)


def fading(first, actions, masks, seeds):
    """A world model that dims the first frame, by an amount that its seed sets."""
    assert masks.shape == (len(first), actions.shape[2])
    dim = (
        1
        - (np.arange(1, actions.shape[1] + 1)[None, :, None, None, None] * (seeds % 3)[:, None, None, None, None]) / 20
    )
    return (first[:, None] * dim).astype(np.uint8)


@pytest.fixture(scope="session")
def models():
    return {"early": fading, "final": fading}
