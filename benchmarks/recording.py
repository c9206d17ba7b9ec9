"""How much of the simulators' own speed the recording keeps: `python -m benchmarks.recording [--episodes N] [--write]`.

The limit is what one process that does nothing but act, step and render makes in frames a second, times the processes;
the simulators are built beforehand. Beside it the recording as the stage `episodes` does it, start of the processes and
building included, with states, keypoints, PNG and one merged store. Both by the same spec, one after the other.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.results import machine, record
from roboalign.hardware.spec import ProcessesSpec
from roboalign.sources.builder import build_simulator
from roboalign.sources.shards import materialise
from roboalign.sources.spec import SimulatedRobotSpec, SourceSpec

SOURCES = ("metaworld", "fetch", "panda", "jaco")


def raw(spec: SimulatedRobotSpec, episodes: int) -> float:
    """Frames a second of one process: `episodes` of each task, by the scripted expert."""
    frames, seconds = 0, 0.0
    for task in spec.tasks:
        simulator = build_simulator(spec, task)
        try:
            simulator.reset(0)
            simulator.frame()
            began = time.perf_counter()
            for seed in range(episodes):
                simulator.reset(seed)
                for _ in range(spec.length):
                    simulator.frame()
                    for _ in range(spec.stride):
                        simulator.step(simulator.expert())
            seconds += time.perf_counter() - began
        finally:
            simulator.close()
        frames += episodes * spec.length
    return frames / seconds


def recorded(spec: SimulatedRobotSpec, source: str, workers: int) -> float:
    """Frames a second of the stage."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        began = time.perf_counter()
        executor = ProcessesSpec(kind="processes", workers=workers)
        made = materialise(spec, source, base / "store", base / "scratch", base / "cache", executor, lambda *_: None)
        return made.frames / (time.perf_counter() - began)


def main() -> None:
    """Measure all sources and print the table; `--write` keeps it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=80, help="episodes of each source to record")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), help="which robots")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    lines = [
        f"`python -m benchmarks.recording`: {machine()} {arguments.episodes} episodes a source, {arguments.workers} "
        "processes, their start included.",
        "",
        "| source | raw frames/s, one process | x processes | recorded frames/s | ratio |",
        "| --- | --- | --- | --- | --- |",
    ]
    adapter: TypeAdapter[SimulatedRobotSpec] = TypeAdapter(SourceSpec)
    for source in arguments.sources:
        spec = adapter.validate_python({"kind": source, "episodes": arguments.episodes})
        alone = raw(spec, 8)
        limit = alone * arguments.workers
        made = recorded(spec, source, arguments.workers)
        lines.append(f"| {source} | {alone:.0f} | {limit:.0f} | {made:.0f} | {made / limit:.2f} |")
        print(lines[-1], flush=True)
    if arguments.write:
        record("Recording", "\n".join(lines))


if __name__ == "__main__":
    main()
