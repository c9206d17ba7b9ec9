"""Record or read the episodes of one source: `python -m stages.episodes <source>`."""

import time
from pathlib import Path

from roboalign.hardware.spec import ExecutorSpec
from roboalign.run import Run, execute
from roboalign.sources.shards import materialise
from roboalign.sources.spec import SourceSpec


def main(run: Run) -> None:
    """Write `artifacts/episodes/<source>`."""
    spec = run.section(f"sources.{run.item}", SourceSpec)
    executor = run.section("hardware.executor", ExecutorSpec)
    cache = run.root / run.section("hardware.cache", str)
    started = time.monotonic()

    def progress(done: int, of: int, text: str) -> None:
        passed = time.monotonic() - started
        run.log(f"{done} of {of} shards, {text}, about {passed / done * (of - done):.0f} s left")

    output = run.output(f"artifacts/episodes/{run.item}")
    made = materialise(spec, run.item, output, Path(run.scratch), cache, executor, progress)
    seconds = time.monotonic() - started
    run.write_timings({"seconds": seconds, "frames_per_second": made.frames / seconds})
    run.log(f"{made.kept} episodes, {made.frames} frames at {made.frames / seconds:.0f} a second")
    for each in made.damaged:
        run.log(f"damaged, left out: {each.name}: {each.reason}")
    for text, count in made.warnings:
        run.log(f"warning: {count} episodes: {text}")
    for field, count in made.left_out:
        run.log(f"left out by {field}: {count} episodes")


if __name__ == "__main__":
    execute("episodes", main)
