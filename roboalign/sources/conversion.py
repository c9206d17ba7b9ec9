"""`python -m roboalign convert`: converts any readable data set into a LeRobotDataset 3, without an experiment."""

import hashlib
import re
import shutil
import sys
from pathlib import Path

from roboalign.hardware.spec import ProcessesSpec
from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.command import Options, report_errors
from roboalign.sources.inspection.proposal import propose
from roboalign.sources.shards import materialise
from roboalign.sources.spec import DatasetSpec, RecordedSpec, SimulatedRobotSpec


def run(
    source: str,
    spec: SimulatedRobotSpec | RecordedSpec | None,
    folder: Path,
    *,
    options: Options,
    workers: int,
    cache: Path,
) -> int:
    """Convert the source of `spec`, or the data set at the URI `source` if there is no spec. Returns the exit code."""

    def convert() -> int:
        resolved = proposed_spec(source, options, cache) if spec is None else spec
        if isinstance(resolved, DatasetSpec):
            resolved = resolved.model_copy(update={"options": {**resolved.options, **options}})
        return convert_source(resolved, folder, workers, cache)

    return report_errors(source, convert)


def proposed_spec(uri: str, options: Options, cache: Path) -> RecordedSpec:
    """Return the spec that `inspect` proposes for a data set, with a minimum length of 2 frames.

    Raises SourceError if the proposal is incomplete.
    """
    proposal = propose(uri, options, cache)
    if proposal.missing or proposal.spec is None:
        reason = f"it has no {' and no '.join(proposal.missing)}" if proposal.missing else proposal.problem
        raise SourceError(
            f"{uri}: {proposal.layout.what}; but {reason}; save what `python -m roboalign inspect {uri}` prints, "
            "complete it, and convert that file"
        )
    return proposal.spec.model_copy(update={"length": 2})


def convert_source(spec: SimulatedRobotSpec | RecordedSpec, folder: Path, workers: int, cache: Path) -> int:
    """Write the data set into `folder`, as the stage `episodes` does, and print a report. Returns the exit code.

    An interrupted conversion resumes: finished shards are kept next to `folder` until the conversion is complete.
    """
    name = re.sub(r"[^a-z0-9]+", "_", folder.name.lower()).strip("_") or "source"
    key = hashlib.blake2b(spec.model_dump_json().encode(), digest_size=6).hexdigest()
    scratch = folder.parent / f".{folder.name}.{key}"

    def progress(done: int, total: int, text: str) -> None:
        print(f"{done} of {total} parts, {text}", file=sys.stderr)

    executor = ProcessesSpec(kind="processes", workers=workers)
    report = materialise(spec, name, folder, scratch, cache, executor, progress)
    shutil.rmtree(scratch, ignore_errors=True)
    print(f"{folder}: {report.kept} episodes, {report.frames} frames")
    for damaged in report.damaged:
        print(f"damaged, left out: {damaged.name}: {damaged.reason}", file=sys.stderr)
    for field, count in report.left_out:
        print(f"left out by {field}: {count} episodes", file=sys.stderr)
    return 0
