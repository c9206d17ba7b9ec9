"""Record the episodes of one source: `python -m stages.episodes <source>`."""

import time

from roboalign.hardware.spec import ProcessesSpec
from roboalign.io import write_json
from roboalign.run import Run, execute
from roboalign.sources.builder import simulated
from roboalign.sources.shards import record_source
from roboalign.sources.spec import SourceSpec


def main(run: Run) -> None:
    """Write `artifacts/episodes/<source>`."""
    spec = simulated(run.section(f"sources.{run.item}", SourceSpec))
    executor = run.section("hardware.executor", ProcessesSpec)
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        passed = time.monotonic() - started
        run.say(f"{done} of {total} episodes, about {passed / done * (total - done):.0f} s left")

    output = run.output(f"artifacts/episodes/{run.item}")
    record_source(spec, run.item, output, run.scratch, executor, progress)
    seconds = time.monotonic() - started
    frames = spec.episodes * spec.length
    timing = {"seconds": seconds, "frames_per_second": frames / seconds}
    write_json(run.root / "timings" / f"{run.label}.json", timing)
    run.say(f"{frames} frames at {frames / seconds:.0f} a second")


if __name__ == "__main__":
    execute("episodes", main)
