"""How long a bench of 10,000 pairs takes, and whether it is the same twice: `python -m benchmarks.bench [--write]`.

Runs the stage `bench` itself, two times, each in a process and a folder of its own, with this checkout's specs but
`--pairs`, on the episodes and models of an experiment that was run (`--artifacts`). Generated clips are included, as
are the data card and the metrics. Targets: under 10 minutes, under 4 GB, the same bytes both times; exit code 1 where
one is missed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import yaml

from benchmarks.results import machine, record
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import digest, read_json
from roboalign.run import prepare, read_stage

MINUTES, GIGABYTES = 10.0, 4.0
"""The targets."""


def child(root: Path) -> None:
    """Run the stage in `root`."""
    from stages.bench import main

    run = replace(read_stage("bench"), root=root)
    prepare(run.section("hardware.device", DeviceSpec))
    main(run)


def prepared(root: Path, artifacts: Path, pairs: int, threads: int) -> None:
    """A folder for the stage: this checkout's sections, and links to the artifacts that it reads."""
    (root / "build/spec").mkdir(parents=True)
    for file in Path("build/spec").glob("*.yaml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if file.stem == "bench":
            content["bench"]["pairs"] = pairs
        if file.stem == "hardware":
            content["hardware"]["device"]["threads"] = threads
        (root / "build/spec" / file.name).write_text(yaml.safe_dump(content), encoding="utf-8")
    (root / "artifacts").mkdir()
    for folder in artifacts.resolve().iterdir():
        if folder.name != "bench":
            (root / "artifacts" / folder.name).symlink_to(folder)


def timed(root: Path) -> tuple[float, float]:
    """Seconds of the stage in a fresh process, and the most gigabytes that it and its own processes held at once: the
    sum of what is resident in each, looked at twice a second."""
    began, most = time.monotonic(), 0
    with subprocess.Popen([sys.executable, "-m", "benchmarks.bench", "--child", str(root)]) as process:
        top = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, sum(map(resident, [top, *descendants(top)])))
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit("the stage failed; see above")
    return time.monotonic() - began, most / 1e9


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """The processes that a process has started, and theirs; none where it has ended."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def resident(process: psutil.Process) -> int:
    """Bytes of memory of a process; 0 where it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def main() -> int:
    """Measure and print; the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    arguments.add_argument("--pairs", type=int, default=10_000)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--runs", type=int, default=2)
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.child is not None:
        child(given.child)
        return 0
    lines: list[str] = []
    hashes: set[str] = set()
    met = True
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.runs):
            root = Path(folder) / str(number)
            prepared(root, given.artifacts, given.pairs, given.threads)
            seconds, memory = timed(root)
            made = digest([root / "artifacts/bench", root / "metrics/bench.json"])
            hashes.add(made)
            size = sum(file.stat().st_size for file in (root / "artifacts/bench").rglob("*") if file.is_file()) / 1e6
            counts = read_json(root / "metrics/bench.json")
            met &= seconds < 60 * MINUTES and memory < GIGABYTES
            lines.append(
                f"| {number + 1} | {counts['pairs']} | {counts['different']} | {counts['by_origin']['generated']} | "
                f"{seconds:.0f} | {memory:.2f} | {size:.0f} | {made[:12]} |"
            )
    same = len(hashes) == 1
    head = ["run", "pairs", "different", "generated", "seconds", "peak memory, GB", "MB written", "hash of all files"]
    provenance = ", ".join(f"{name} {count}" for name, count in sorted(counts["by_provenance"].items()))
    text = "\n".join(
        [
            f"{machine()} `python -m benchmarks.bench --write`, {given.threads} threads. Targets: under {MINUTES:.0f} "
            f"minutes and {GIGABYTES:.0f} GB, byte-identical when repeated. The card and the metrics are included.",
            "",
            "| " + " | ".join(head) + " |",
            "|" + " --- |" * len(head),
            *lines,
            "",
            f"Byte-identical: {'yes' if same else 'no'}. Labels: {provenance}.",
        ]
    )
    print(text)
    if given.write:
        record("Bench", text)
    return 0 if met and same else 1


if __name__ == "__main__":
    sys.exit(main())
