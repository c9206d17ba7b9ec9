"""One stage, running: what it may read and write, its lock, its scratch folder, its threads.

A stage gets at its spec sections, inputs and outputs only through a `Run`, and a `Run` hands out only what `dvc.yaml`
declares for that stage: what DVC tracks and what the code reads cannot drift apart.
"""

import fcntl
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter

import roboalign
from roboalign.checkpoint import CheckpointError
from roboalign.distributed import PARENT, TRAINING, Launch, is_rank, local_rank, rank_number, set_launch
from roboalign.errors import StageError as StageError
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import digest, find_output, write_json
from roboalign.types import Json

T = TypeVar("T")

SCRATCH = Path(".scratch")
"""Git-ignored folder of resumable checkpoints; not an output of any stage."""

ITEM = re.compile(r"\$\{item\.[a-z_]+\}")
"""DVC's name for the item of a stage's matrix, such as `${item.source}`."""

FIELD = re.compile(r"(?<![\w./])[a-z][a-z_]*(?:\.[a-z][a-z0-9_]*)+(?![\w/])")
"""A field's path in a sentence, such as `sources.fetch.length`."""

FREE_KEYS = ("hardware.executor", "hardware.cache", "hardware.launcher")
"""Spec keys that stages may read undeclared, because they never change a result."""


@dataclass(frozen=True)
class Run:
    """A running stage: `name`, the matrix `item` (or ''), and what dvc.yaml declares for it."""

    name: str
    item: str
    sections: dict[str, Path]
    """Declared spec keys, such as `tokenizer` or `sources.fetch`, and the file of each."""
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    root: Path = field(default=Path())

    def section(self, key: str, kind: Any) -> Any:
        """The resolved spec section `key`, as the spec class or union `kind`.

        Raises StageError if dvc.yaml does not declare the key for this stage, or compose has not written it.
        """
        if key in FREE_KEYS:
            file = self.root / "build/spec" / f"{key.split('.')[0]}.yaml"
        elif key in self.sections:
            file = self.root / self.sections[key]
        else:
            raise StageError(
                f"stage {self.name} reads the section {key}, which dvc.yaml does not declare under `params`"
            )
        if not file.exists():
            raise StageError(f"{file} is missing; run `dvc repro`, whose first stage writes it")
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
        for part in key.split("."):
            value = value[part]
        return TypeAdapter(kind).validate_python(value)

    def input(self, path: str) -> Path:
        """A declared dependency. Raises StageError if dvc.yaml does not declare it or it does not exist."""
        if not any(Path(path).is_relative_to(declared) for declared in self.inputs):
            raise StageError(f"stage {self.name} reads {path}, which dvc.yaml does not declare under `deps`")
        return find_output(self.root, path)

    def output(self, path: str) -> Path:
        """A declared output, its folder made. Raises StageError if dvc.yaml does not declare it."""
        if not any(Path(path).is_relative_to(declared) for declared in self.outputs):
            raise StageError(f"stage {self.name} writes {path}, which dvc.yaml does not declare under `outs`")
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        return self.root / path

    @property
    def provenance(self) -> str:
        """The hash of everything declared that goes in: resolved sections, inputs, code. 32 hex digits."""
        texts = []
        for key, file in sorted(self.sections.items()):
            value: Json = yaml.safe_load((self.root / file).read_text(encoding="utf-8"))
            for part in key.split("."):
                value = value[part]
            texts.append(f"{key} {value!r}")
        return digest([self.root / path for path in self.inputs], self.name, self.item, *texts)

    @property
    def scratch(self) -> Path:
        """The folder of this stage's resumable checkpoints, keyed by `provenance`: a change of anything starts anew."""
        folder = self.root / SCRATCH / self.label / self.provenance
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def label(self) -> str:
        """The stage's name in messages and folders: `tokenizer`, `episodes@fetch`."""
        return f"{self.name}@{self.item}" if self.item else self.name

    def say(self, text: str) -> None:
        """Print one line of progress; of several ranks, the first one."""
        if rank_number() == 0:
            print(f"[{self.label}] {text}", file=sys.stderr, flush=True)

    def write_timings(self, timings: Json) -> None:
        """Write timings, which differ between runs and are therefore no output of the stage."""
        write_json(self.root / "timings" / f"{self.label}.json", timings)

    def clear_scratch(self) -> None:
        """Remove all scratch checkpoints of this stage: its outputs are written."""
        shutil.rmtree(self.root / SCRATCH / self.label, ignore_errors=True)


def read_stage(name: str, item: str = "", root: Path = Path()) -> Run:
    """The `Run` of a stage from dvc.yaml's declaration. Raises StageError if dvc.yaml has no such stage."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    if name not in stages:
        raise StageError(f"dvc.yaml has no stage {name}")
    stage = stages[name]
    if ("matrix" in stage) != bool(item):
        raise StageError(f"stage {name} takes {'one item of its matrix' if 'matrix' in stage else 'no item'}")

    def path(entry: Any) -> Path:
        text = entry if isinstance(entry, str) else next(iter(entry))
        return Path(ITEM.sub(item, text))

    sections: dict[str, Path] = {}
    for entry in stage.get("params", []):
        for file, keys in entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]:
            for key in keys:
                sections[ITEM.sub(item, key)] = Path(ITEM.sub(item, file))
    outputs = [path(entry) for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return Run(name, item, sections, tuple(map(path, stage.get("deps", []))), tuple(outputs), root)


def execute(name: str, main: Callable[[Run], None]) -> None:
    """Run a stage's `main`: guard, lock, threads and seeds first; errors as one line and exit code 1.

    The command line may name the item of the stage's matrix.
    """
    started = time.monotonic()
    try:
        run = read_stage(name, sys.argv[1] if len(sys.argv) > 1 else "")
        guard()
        die_with_parent()
        if is_rank():  # the stage that started it holds the lock, and writes the outputs
            prepare(run.section("hardware.device", DeviceSpec))
            main(run)
            raise StageError(f"a rank of {os.environ[TRAINING]} did not find its training in this stage")
        lock = acquire(run)
        if "hardware.device" in run.sections:
            prepare(run.section("hardware.device", DeviceSpec))
            set_launch(Launch(run.section("hardware.launcher", str), (f"stages.{name}", *sys.argv[1:])))
        run.say("started")
        main(run)
        run.clear_scratch()
        run.say(f"done in {time.monotonic() - started:.0f} s")
        lock.close()
    except (StageError, CheckpointError, yaml.YAMLError, ValueError, OSError) as error:
        if os.environ.get("ROBOALIGN_TRACEBACK"):
            raise
        line = " ".join(name_origins(str(error)).split())
        print(f"[{name}] error: {line} (ROBOALIGN_TRACEBACK=1 shows where)", file=sys.stderr)
        raise SystemExit(1) from None


def name_origins(message: str, root: Path = Path()) -> str:
    """The message, with the file and line behind each field in it that a file sets: specs/experiments/smoke.yaml:21.

    `roboalign show` is asked, in a process of its own: stages read resolved sections, not the specs they came from.
    """

    def origin(found: re.Match[str]) -> str:
        command = [sys.executable, "-m", "roboalign", "--root", str(root), "show", found[0], "--origins"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        place = shown[0].rpartition("# ")[2] if len(shown) == 1 else "default"
        return found[0] if place == "default" else f"{found[0]} ({place})"

    return FIELD.sub(origin, message)


def guard() -> None:
    """Refuse code from outside this checkout: an installed copy would run, while DVC records this one's hash."""
    here, there = Path.cwd().resolve(), Path(roboalign.__file__).resolve()
    if not there.is_relative_to(here):
        raise StageError(
            f"roboalign was imported from {there.parent}, not from this checkout; run stages as `dvc repro`"
        )


def die_with_parent() -> None:
    """End this process when the `dvc` or, if it is a rank, the stage that started it is gone.

    A killed DVC must not leave a trainer behind, and a killed stage no ranks.
    """
    import psutil

    parents = [p for p in psutil.Process().parents() if any("dvc" in part for part in p.cmdline()[:3])][:1]
    if is_rank():
        # On another node of a SLURM job there is no such process; srun ends those ranks.
        parents += [p for p in psutil.Process().parents() if p.pid == int(os.environ[PARENT])]
    if not parents:
        return

    def watch() -> None:
        while all(parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE for parent in parents):
            time.sleep(1)
        os._exit(137)

    threading.Thread(target=watch, daemon=True).start()


def acquire(run: Run) -> Any:
    """Hold the stage's lock until the returned file is closed. Raises StageError if another process holds it."""
    folder = run.root / SCRATCH
    folder.mkdir(exist_ok=True)
    lock = (folder / f"{run.label}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StageError(f"another process runs {run.label} in this checkout; wait for it or end it") from None
    return lock


def prepare(device: DeviceSpec) -> None:
    """Set threads, determinism and the random seeds that no spec sets."""
    torch.set_num_threads(device.threads)
    torch.use_deterministic_algorithms(True, warn_only=device.accelerator != "cpu")
    # It would write to each new tensor once more, which is 5 % of a step; nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.accelerator == "cuda" and not torch.cuda.is_available():
        raise StageError(
            "hardware.device.accelerator is cuda, but torch sees no CUDA device; set it to cpu or use a GPU machine"
        )
    if device.accelerator == "cuda" and is_rank():
        torch.cuda.set_device(local_rank())  # so that "cuda" is this rank's device for frozen models, too
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries that draw from the global generator
    torch.manual_seed(0)
