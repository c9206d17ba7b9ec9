from pathlib import Path

import pytest
import yaml
from probe_fakes import seen_episode

from roboalign.probe.spec import ProbeSpec, ProbesSpec
from roboalign.types import Episode, Split

SMOKE = Path("specs/probe/smoke.yaml")


@pytest.fixture(scope="session")
def seen() -> list[Episode]:
    """Sixteen episodes to train on, two to validate, six to test."""
    parts: tuple[tuple[Split, int], ...] = (("train", 16), ("validation", 2), ("test", 6))
    splits = [split for split, count in parts for _ in range(count)]
    return [seen_episode(number, split) for number, split in enumerate(splits)]


@pytest.fixture
def smoke() -> ProbeSpec:
    """The shipped judge's probe, with two members and all episodes."""
    judge = ProbesSpec.model_validate(yaml.safe_load(SMOKE.read_text())).judge
    return ProbeSpec.model_validate(judge.model_dump() | {"members": 2, "parts": 1})
