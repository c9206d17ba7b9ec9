"""`kill -9` at random moments of every training stage: the run that resumes ends as one that was never killed."""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from roboalign import checkpoint
from tests.attack.conftest import SCALE, Tell
from tests.attack.small_experiment import preload, run_stage, start_stage, write_experiment

STAGES = {
    ("tokenizer", ""): True, ("tokens", ""): False, ("world_model", ""): True, ("probe", "judge"): True,
    ("probe", "gold"): False, ("probe", "held_out"): False, ("bench", ""): False, ("judge", "judge"): True,
    ("judge", "held_out"): False, ("student", ""): True, ("rl", ""): True,
}  # fmt: skip
"""The stages up to alignment in their order, and whether they are killed; the others run the code of one that is."""
SHORT: dict[str, dict[str, Any]] = {
    "tokenizer": {"widths": [8], "warps": 0},
    "tokenizer.training": {"steps": 6, "batch_size": 1, "checkpoint_every": 1, "log_every": 1},
    "tokenizer.samples": {"evaluated": 1},
    "hardware.device": {"threads": 1},
}
"""A tokenizer that trains for a second."""


@dataclass(frozen=True)
class Stage:
    """A stage of a checkout."""

    root: Path
    name: str
    item: str

    @property
    def label(self) -> str:
        """As in messages and folders."""
        return f"{self.name}@{self.item}" if self.item else self.name

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.root / f"{self.label}.log"

    def outputs(self) -> dict[str, bytes]:
        """The bytes of the weights, metrics and plots that it writes, by path."""
        folders = {"probe": f"artifacts/probe/{self.item}"}
        name = self.item or self.name
        files = sorted((self.root / folders.get(self.name, f"artifacts/{name}")).rglob("*"))
        name = f"probe/{self.item}" if self.name == "probe" else name
        files += [self.root / f"metrics/{name}.json", *sorted((self.root / "plots").glob(f"{name}[._]*tsv"))]
        return {str(file.relative_to(self.root)): file.read_bytes() for file in files if file.is_file()}

    def remove_outputs(self) -> None:
        """As DVC does before it runs a stage."""
        for path in self.outputs():
            (self.root / path).unlink()

    def checkpoints(self) -> list[Path]:
        """The scratch checkpoints that it has written."""
        return sorted((self.root / ".scratch" / self.label).rglob("checkpoint.safetensors"))

    def start(self) -> ForkServerProcess:
        """Start it, its outputs removed."""
        self.remove_outputs()
        self.log.unlink(missing_ok=True)
        return start_stage(self.root, self.log, self.name, self.item)

    def events(self, process: ForkServerProcess) -> Iterator[float]:
        """The times at which it says that it started, and writes its scratch checkpoints, until it ends."""
        seen: set[tuple[Path, int, int]] = set()
        started = False
        while process.is_alive():
            now = set()
            for path in self.checkpoints():
                try:
                    status = path.stat()
                    # A file system may give a new file the number of an old one.
                    now.add((path, status.st_ino, status.st_mtime_ns))
                except FileNotFoundError:  # it has ended in this moment
                    continue
            if not started and self.log.exists() and "started" in self.log.read_text():
                started = True
                yield time.monotonic()
            if now - seen:
                seen |= now
                yield time.monotonic()
            time.sleep(0.002)


def times_of(stage: Stage) -> list[float]:
    """Run a stage without a kill; the seconds at which it started, wrote each scratch checkpoint, and ended."""
    process = stage.start()
    times = list(stage.events(process))
    assert process.exitcode == 0, stage.log.read_text()[-4000:]
    return [*times, time.monotonic()]


def kill_at(stage: Stage, event: int, seconds: float) -> bool:
    """Start a stage and kill it some seconds after its event number `event`; False if it ended before."""
    process = stage.start()
    for number, _ in enumerate(stage.events(process)):
        if number == event:
            process.join(seconds)
            break
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), stage.log.read_text()[-4000:]
    return process.exitcode == -signal.SIGKILL


def attack_stage(stage: Stage, kills: int, draw: random.Random) -> Counter[str]:
    """Kill a stage several times in one run, let it end, and compare its outputs with those of an unbroken run.

    The moments lie anywhere between the start and the end, each stretch between two scratch checkpoints as likely as
    any other. Returns how many kills hit before the first scratch checkpoint, between two, and after the last; how
    many runs resumed; and how many files were compared.
    """
    times = times_of(stage)
    whole, figures = stage.outputs(), Counter[str]()
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) > 4, f"{stage.label} writes {len(gaps) - 1} scratch checkpoints, too few for kills between them"
    done = 0
    for moment in sorted(draw.sample(range(len(gaps)), kills)):
        # A run that resumes starts behind the checkpoints that were written before.
        if not kill_at(stage, max(0, moment - done), draw.uniform(0, gaps[moment])):
            figures["ended_before_the_kill"] += 1
            done = 0
            continue
        figures["kills"] += 1
        for path in stage.checkpoints():
            checkpoint.load_scratch(path)  # whole, whenever the kill came
        figures["before_the_first" if not stage.checkpoints() else "after_a_checkpoint"] += 1
        figures["resumed"] += stage.log.read_text().count("resumes at step")
        done = moment
    stage.remove_outputs()
    printed = run_stage(stage.root, stage.log, stage.name, stage.item)
    figures["resumed"] += printed.count("resumes at step")
    figures["files"] = len(whole)
    found = stage.outputs()
    assert found.keys() == whole.keys()
    assert not [path for path, content in whole.items() if found[path] != content], f"{stage.label} ended otherwise"
    assert not (stage.root / ".scratch" / stage.label).exists()
    return figures


@pytest.mark.attack
def test_a_killed_stage_ends_as_an_unbroken_one_short(tmp_path: Path) -> None:
    preload(["tokenizer"])
    write_experiment(tmp_path / "checkout", SHORT)
    figures = attack_stage(Stage(tmp_path / "checkout", "tokenizer", ""), 2, random.Random(1))
    assert figures["kills"] > 0
    assert figures["files"] == 3


@pytest.mark.attack
def test_killed_stages_end_as_unbroken_ones(tmp_path: Path, tell: Tell) -> None:
    preload(sorted({name for name, _ in STAGES}))
    write_experiment(tmp_path / "checkout")
    draw, total = random.Random(2), Counter[str]()
    for (name, item), killed in STAGES.items():
        stage = Stage(tmp_path / "checkout", name, item)
        if not killed:
            run_stage(stage.root, stage.log, name, item)
            continue
        for _ in range(SCALE):
            figures = attack_stage(stage, 3, draw)
            tell(f"{stage.label} killed", **figures)
            total += figures
    assert total["kills"] >= 12
    tell("all stages killed", **total, unequal=0)
