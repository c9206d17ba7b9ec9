"""Materialisation of a source in shards, which are processed independently and kept if the run is interrupted."""

import atexit
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from roboalign.executor import run_all
from roboalign.hardware.spec import ExecutorSpec
from roboalign.io import read_json, write_json
from roboalign.sources.builder import build_reader, build_simulator
from roboalign.sources.ingest_report import (
    QUARANTINE,
    IngestReport,
    IngestTally,
    add_reports,
    check_tolerance,
    quarantine_record,
)
from roboalign.sources.readers.convert import convert
from roboalign.sources.readers.reader import Damaged, Part
from roboalign.sources.simulators.record import Assignment, assign, record
from roboalign.sources.simulators.simulator import Simulator
from roboalign.sources.simulators.spec import SimulatedSpec
from roboalign.sources.spec import DatasetSpec, RecordedSpec, SimulatedRobotSpec, SourceSpec
from roboalign.sources.splits import split_groups
from roboalign.store import EpisodeStore, EpisodeWriter
from roboalign.store.merging import merge
from roboalign.types import Episode, Split

SHARD = 10
"""Largest number of simulated episodes in a shard: the work that each worker can lose when it is killed."""
_SPEC: TypeAdapter[SimulatedRobotSpec | RecordedSpec] = TypeAdapter(SourceSpec)

Progress = Callable[[int, int, str], None]
"""Callback with the number of finished shards, the total, and a text that counts their episodes."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a source and the folder of its store. Picklable, to be sent to worker processes."""

    source: str
    spec: str
    """The source's spec as JSON."""
    folder: Path
    cache: Path
    """Folder of the cached blocks of remote files."""
    work: tuple[Assignment, ...] | Part
    """Episodes of one task to record, or the part of a data set to read."""


def divide(spec: SimulatedRobotSpec | RecordedSpec, source: str, scratch: Path, cache: Path) -> list[Shard]:
    """Return the shards of a source. They depend only on the spec and the data set, not on the number of workers."""
    work: list[tuple[Assignment, ...] | Part] = []
    if isinstance(spec, SimulatedSpec):
        assignments = assign(spec)
        for task in spec.tasks:
            task_assignments = [a for a in assignments if a.task == task]
            work += [tuple(task_assignments[start : start + SHARD]) for start in range(0, len(task_assignments), SHARD)]
    else:
        work += build_reader(spec, cache).parts()
    text = spec.model_dump_json()
    return [Shard(source, text, scratch / f"shard-{n:05d}", cache, items) for n, items in enumerate(work)]


def make_shard(shard: Shard) -> IngestReport:
    """Record or read a shard, unless it is already finished. Returns its report."""
    path = shard.folder / "report.json"
    if not path.exists():
        spec = _SPEC.validate_json(shard.spec)
        if isinstance(spec, SimulatedSpec):
            assert isinstance(shard.work, tuple)
            report = _record(spec, shard, shard.work)
        else:
            assert isinstance(shard.work, Part)
            report = _read(spec, shard, shard.work)
        shard.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(report))
        return report
    value = read_json(path)
    damaged = tuple(Damaged(**each) for each in value["damaged"])
    counts = (tuple((name, n) for name, n in value.get(key, ())) for key in ("left_out", "warnings"))
    return IngestReport(value["kept"], value["frames"], damaged, *counts)


_open: dict[tuple[str, str], Simulator] = {}
"""The simulator of this process, by its spec and task.

Building one takes as long as rendering many frames, and episodes do not depend on earlier ones, so it is reused by the
following shards of the same task.
"""


def _simulator(spec: SimulatedRobotSpec, task: str) -> Simulator:
    key = spec.model_dump_json(), task
    if key not in _open:
        _close()
        _open[key] = build_simulator(spec, task)
        # Registered after MuJoCo's own handler and therefore called before it: freeing a renderer needs EGL.
        atexit.unregister(_close)
        atexit.register(_close)
    return _open[key]


def _close() -> None:
    while _open:
        _open.popitem()[1].close()


def _record(spec: SimulatedRobotSpec, shard: Shard, work: tuple[Assignment, ...]) -> IngestReport:
    simulator = _simulator(spec, work[0].task)
    with EpisodeWriter(shard.folder / "store", fps=spec.fps, storage=spec.storage) as writer:
        for assignment in work:
            writer.add(record(spec, shard.source, assignment, simulator))
    return IngestReport(len(work), len(work) * spec.length)


def _read(spec: RecordedSpec, shard: Shard, part: Part) -> IngestReport:
    reader = build_reader(spec, shard.cache)
    tally = IngestTally()
    with ExitStack() as stack:
        writer: EpisodeWriter | None = None
        for raw in reader.read(part):
            result = raw if isinstance(raw, Damaged) else convert(raw, spec, shard.source)
            tally.add(raw, result)
            if isinstance(result, Episode):
                if writer is None:  # a store contains at least one episode
                    fps = reader.fps / spec.stride
                    writer = EpisodeWriter(
                        shard.folder / "store", fps=fps, storage=spec.storage, cameras=spec.stored_cameras
                    )
                    stack.enter_context(writer)
                writer.add(result)
            if spec.episodes and tally.kept == spec.episodes:
                break
    return tally.report()


def materialise(
    spec: SimulatedRobotSpec | RecordedSpec,
    source: str,
    output: Path,
    scratch: Path,
    cache: Path,
    executor: ExecutorSpec,
    progress: Progress,
) -> IngestReport:
    """Record or read a source into the store `output`, reusing finished shards of an interrupted run.

    Raises SourceError if more episodes are damaged than the spec tolerates, or if none is kept.

    Args:
        spec: spec of the source.
        source: name of the source.
        output: folder of the finished store; an existing one is replaced.
        scratch: folder of the shards.
        cache: folder of the cached blocks of remote files.
        executor: runs the shards on this machine or on a cluster.
        progress: called after each shard.
    """
    shards = divide(spec, source, scratch, cache)
    reports: list[IngestReport] = []
    try:
        # Closed as soon as there are enough episodes, which cancels the shards that have not started.
        with closing(run_all(executor, make_shard, shards)) as results:
            for report in results:
                reports.append(report)
                progress(len(reports), len(shards), f"{sum(a.kept for a in reports)} episodes")
                if isinstance(spec, DatasetSpec) and 0 < spec.episodes <= sum(a.kept for a in reports):
                    break
    finally:
        _close()
    total = add_reports(reports)
    if isinstance(spec, DatasetSpec):
        check_tolerance(total, spec, source, scratch / "damaged.json")
    episodes = order(shards, reports, spec)
    # Merged in the scratch folder and moved when complete, so that an interrupted run leaves no partial output.
    merge(scratch / "store", [(shards[number].folder / "store", index, split) for number, index, split in episodes])
    if isinstance(spec, DatasetSpec):
        write_json(scratch / "store" / QUARANTINE, quarantine_record(total))
    if output.exists():
        shutil.rmtree(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    (scratch / "store").rename(output)
    return total


def order(
    shards: Sequence[Shard], reports: Sequence[IngestReport], spec: SimulatedRobotSpec | RecordedSpec
) -> list[tuple[int, int, Split | None]]:
    """Return (shard number, index in the shard, split) of each episode of the merged store, in order.

    The split is None if it was assigned when the episode was recorded.
    """
    if isinstance(spec, SimulatedSpec):
        numbered = sorted(
            (assignment.number, number, index)
            for number, shard in enumerate(shards)
            if not isinstance(shard.work, Part)
            for index, assignment in enumerate(shard.work)
        )
        infos = [EpisodeStore(shard.folder / "store").infos for shard in shards]
        # Two of many random scenes of a task can coincide: the later episode then joins the split of the first.
        split_of_scene: dict[str, Split] = {}
        return [
            (number, index, split_of_scene.setdefault(infos[number][index].scene, infos[number][index].split))
            for _, number, index in numbered
        ]
    kept = [(number, index) for number, report in enumerate(reports) for index in range(report.kept)]
    kept = kept[: spec.episodes or None]
    scenes = [
        info.scene
        for number, report in enumerate(reports)
        if report.kept
        for info in EpisodeStore(shards[number].folder / "store").infos
    ][: len(kept)]
    splits = split_groups(scenes, spec.split, spec.seed)
    return [(number, index, split) for (number, index), split in zip(kept, splits, strict=True)]
