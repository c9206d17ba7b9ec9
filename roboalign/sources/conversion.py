"""`python -m roboalign convert`: any data set that can be read, as a LeRobotDataset 3, without an experiment."""

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
    """Convert what a spec describes, or the data set at the URI `source`; the exit code."""

    def convert() -> int:
        chosen = proposed_spec(source, options, cache) if spec is None else spec
        if isinstance(chosen, DatasetSpec):
            chosen = chosen.model_copy(update={"options": {**chosen.options, **options}})
        return convert_source(chosen, folder, workers, cache)

    return report_errors(source, convert)


def proposed_spec(uri: str, options: Options, cache: Path) -> RecordedSpec:
    """The spec that `inspect` proposes for a data set, for episodes of any length. Raises SourceError if a part of it
    has to be filled in."""
    proposal = propose(uri, options, cache)
    if proposal.missing or proposal.spec is None:
        reason = f"it has no {' and no '.join(proposal.missing)}" if proposal.missing else proposal.problem
        raise SourceError(
            f"{uri}: {proposal.layout.what}; but {reason}; save what `python -m roboalign inspect {uri}` prints, "
            "complete it, and convert that file"
        )
    return proposal.spec.model_copy(update={"length": 2})


def convert_source(spec: SimulatedRobotSpec | RecordedSpec, folder: Path, workers: int, cache: Path) -> int:
    """Write the data set into `folder`, as the stage `episodes` does, and say what became of it; the exit code.

    A conversion that was interrupted goes on where it was: its finished shards lie beside `folder` until it is done.
    """
    name = re.sub(r"[^a-z0-9]+", "_", folder.name.lower()).strip("_") or "source"
    key = hashlib.blake2b(spec.model_dump_json().encode(), digest_size=6).hexdigest()
    scratch = folder.parent / f".{folder.name}.{key}"

    def progress(done: int, of: int, text: str) -> None:
        print(f"{done} of {of} parts, {text}", file=sys.stderr)

    executor = ProcessesSpec(kind="processes", workers=workers)
    report = materialise(spec, name, folder, scratch, cache, executor, progress)
    shutil.rmtree(scratch, ignore_errors=True)
    print(f"{folder}: {report.kept} episodes, {report.frames} frames")
    for each in report.damaged:
        print(f"damaged, left out: {each.name}: {each.reason}", file=sys.stderr)
    for field, count in report.left_out:
        print(f"left out by {field}: {count} episodes", file=sys.stderr)
    return 0
