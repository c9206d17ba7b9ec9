"""Recording a whole source in shards: parts of one task each that are kept when the work is interrupted."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from roboalign.hardware.spec import ProcessesSpec
from roboalign.sources.builder import build_simulator
from roboalign.sources.executor import run_all
from roboalign.sources.record import Assignment, assign, record
from roboalign.sources.spec import SimulatedRobotSpec
from roboalign.store import EpisodeStore, EpisodeWriter

SHARD = 10
"""Episodes of a shard at most: what a kill can cost each worker."""
_SPEC: TypeAdapter[SimulatedRobotSpec] = TypeAdapter(SimulatedRobotSpec)


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a source's episodes, all of one task, and the folder that its store goes to."""

    source: str
    spec: str
    """The source's spec as JSON, so that a shard travels between processes."""
    folder: Path
    assignments: tuple[Assignment, ...]


def rate(spec: SimulatedRobotSpec) -> float:
    """Frames a second of a source's recordings."""
    match spec.kind:
        case "metaworld":
            return 80 / spec.stride
        case "fetch" | "panda":
            return 25 / spec.stride
        case "jaco":
            return 50 / spec.stride


def divide(spec: SimulatedRobotSpec, source: str, scratch: Path) -> list[Shard]:
    """The shards of a source. They depend on the spec alone, not on who records them."""
    text = spec.model_dump_json()
    shards: list[Shard] = []
    assignments = assign(spec)
    for task in spec.tasks:
        own = [a for a in assignments if a.task == task]
        for start in range(0, len(own), SHARD):
            folder = scratch / f"shard-{len(shards):04d}"
            shards.append(Shard(source, text, folder, tuple(own[start : start + SHARD])))
    return shards


def record_shard(shard: Shard) -> int:
    """Record a shard, unless its store is there already; the number of frames."""
    if not shard.folder.exists():
        spec = _SPEC.validate_json(shard.spec)
        simulator = build_simulator(spec, shard.assignments[0].task)
        try:
            with EpisodeWriter(shard.folder, fps=rate(spec)) as writer:
                for assignment in shard.assignments:
                    writer.add(record(spec, shard.source, assignment, simulator))
        finally:
            simulator.close()
    return sum(info.length for info in EpisodeStore(shard.folder).infos)


def record_source(
    spec: SimulatedRobotSpec,
    source: str,
    output: Path,
    scratch: Path,
    executor: ProcessesSpec,
    progress: Callable[[int, int], None],
) -> None:
    """Record a source into the store `output`. Shards that a killed run left in `scratch` are used again.

    `progress` is told the episodes done and their total after each shard.
    """
    shards = divide(spec, source, scratch)
    done = 0
    for shard, _ in zip(shards, run_all(executor, record_shard, shards), strict=True):
        done += len(shard.assignments)
        progress(done, spec.episodes)
    # Put together in the scratch folder and moved when whole, so that a kill leaves nothing beside the output.
    whole = scratch / "store"
    with EpisodeWriter(whole, fps=rate(spec)) as writer:
        for store, index in _by_number(shards):
            writer.add(store.read(index))
    if output.exists():
        shutil.rmtree(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    whole.rename(output)


def _by_number(shards: list[Shard]) -> Iterator[tuple[EpisodeStore, int]]:
    places = sorted(
        (assignment.number, number, index)
        for number, shard in enumerate(shards)
        for index, assignment in enumerate(shard.assignments)
    )
    stores = [EpisodeStore(shard.folder) for shard in shards]
    for _, number, index in places:
        yield stores[number], index
