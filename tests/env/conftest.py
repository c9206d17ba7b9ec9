"""A finished experiment whose only source is a real simulated robot, with untrained models."""

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from roboalign.sources.builder import build_simulator
from roboalign.sources.simulators.record import assign, record
from roboalign.sources.spec import SimulatedRobotSpec, SourceSpec
from roboalign.types import Episode
from tests.experiment_files import write_experiment

IMAGE = {"height": 32, "width": 32, "supersample": 1}
SPLIT = {"train": 0.5, "validation": 0.25, "test": 0.25}
FETCH = {"kind": "fetch", "episodes": 8, "length": 10, "image": IMAGE, "split": SPLIT}


def record_source(values: dict[str, object]) -> list[Episode]:
    """Record the episodes of a robot's spec."""
    adapter: TypeAdapter[SimulatedRobotSpec] = TypeAdapter(SourceSpec)
    spec = adapter.validate_python(values)
    simulators = {task: build_simulator(spec, task) for task in spec.tasks}
    try:
        return [record(spec, spec.kind, each, simulators[each.task]) for each in assign(spec)]
    finally:
        for simulator in simulators.values():
            simulator.close()


def write_sources(root: Path, values: dict[str, object]) -> None:
    """Write the resolved section `sources` with one robot."""
    (root / "build/spec/sources.yaml").write_text(yaml.safe_dump({"sources": {values["kind"]: values}}))


@pytest.fixture(scope="session")
def fetch_episodes() -> list[Episode]:
    return record_source(FETCH)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory, fetch_episodes: list[Episode]) -> Path:
    root = tmp_path_factory.mktemp("experiment")
    write_experiment(root, fetch_episodes)
    write_sources(root, FETCH)
    return root
