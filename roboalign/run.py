"""Runs one stage: its declared inputs and outputs, lock, scratch folder, threads and seeds.

A stage accesses its spec sections, inputs and outputs through a `Run`, which allows only those that `dvc.yaml` declares
for the stage. So DVC tracks everything that the code reads.
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
from roboalign.hardware.spec import DeviceSpec, LoggerName, MicroBatchesSpec
from roboalign.io import digest, find_output, read_json, write_json
from roboalign.loggers import set_loggers
from roboalign.machine import describe_machine, revision
from roboalign.types import Json

T = TypeVar("T")

SCRATCH = Path(".scratch")
"""The git-ignored folder of scratch checkpoints, which are not outputs."""

ITEM = re.compile(r"\$\{item\.[a-z_]+\}")
"""The item of a stage's matrix in dvc.yaml, such as `${item.source}`."""

FIELD = re.compile(r"(?<![\w./])[a-z][a-z_]*(?:\.[a-z][a-z0-9_]*)+(?![\w/])")
"""The path of a field in a message, such as `sources.fetch.length`."""

FREE_KEYS = (
    "hardware.executor", "hardware.cache", "hardware.launcher", "hardware.loggers", "hardware.device.devices",
    "hardware.micro_batches", "hardware.activation_checkpointing",
)  # fmt: skip
"""Spec keys that stages may read without declaring them: what was computed stays valid if they change.

Micro-batches change the last bits, but a change must not train other stages again. A training, whose results depend on
the number of devices in their last bits, declares `hardware.device`.
"""


@dataclass(frozen=True)
class Run:
    """A running stage: `name`, the matrix `item` (or ''), and what dvc.yaml declares for it."""

    name: str
    item: str
    sections: dict[str, Path]
    """The file of each declared spec key, such as `tokenizer` or `sources.fetch`."""
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    root: Path = field(default=Path())

    def section(self, key: str, kind: Any) -> Any:
        """Read the resolved spec section `key`, or a field of it, as the spec class or union `kind`.

        Raises StageError if dvc.yaml does not declare the key or a section that holds it, or the file is missing.
        """
        declared = [name for name in self.sections if key == name or key.startswith(f"{name}.")]
        if key in FREE_KEYS:
            file = self.root / "build/spec" / f"{key.split('.')[0]}.yaml"
        elif declared:
            file = self.root / self.sections[declared[0]]
        else:
            raise StageError(
                f"stage {self.name} reads the section {key}; declare it under `params` of the stage in dvc.yaml"
            )
        if not file.exists():
            raise StageError(f"{file} is missing; run `dvc repro`, whose first stage writes it")
        return read_section(file, key, kind)

    def input(self, path: str) -> Path:
        """The path of a declared dependency. Raises StageError if it is not declared in dvc.yaml or does not exist."""
        if not any(Path(path).is_relative_to(declared) for declared in self.inputs):
            raise StageError(f"stage {self.name} reads {path}; declare it under `deps` of the stage in dvc.yaml")
        return find_output(self.root, path)

    def output(self, path: str) -> Path:
        """The path of a declared output, whose folder is created. Raises StageError if it is not declared in
        dvc.yaml."""
        if not any(Path(path).is_relative_to(declared) for declared in self.outputs):
            raise StageError(f"stage {self.name} writes {path}; declare it under `outs` of the stage in dvc.yaml")
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        return self.root / path

    @property
    def provenance(self) -> str:
        """The hash of all declared inputs (resolved sections, files, code), as 32 hexadecimal digits."""
        texts = []
        for key, file in sorted(self.sections.items()):
            value: Json = yaml.safe_load((self.root / file).read_text(encoding="utf-8"))
            for part in key.split("."):
                value = value[part]
            texts.append(f"{key} {value!r}")
        return digest([self.root / path for path in self.inputs], self.name, self.item, *texts)

    @property
    def scratch(self) -> Path:
        """The folder of this stage's scratch checkpoints; it depends on `provenance`, so changed inputs restart."""
        folder = self.root / SCRATCH / self.label / self.provenance
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def micro_batches(self) -> MicroBatchesSpec:
        """The numbers of micro-batches of the trainings."""
        spec: MicroBatchesSpec = self.section("hardware.micro_batches", MicroBatchesSpec)
        return spec

    @property
    def activation_checkpointing(self) -> bool:
        """Whether the world model computes activations again in the backward pass."""
        return bool(self.section("hardware.activation_checkpointing", bool))

    @property
    def label(self) -> str:
        """The stage's name in messages and folders, such as `tokenizer` or `episodes@fetch`."""
        return f"{self.name}@{self.item}" if self.item else self.name

    def log(self, text: str) -> None:
        """Print one line of progress; of several ranks, the first one."""
        if rank_number() == 0:
            print(f"[{self.label}] {text}", file=sys.stderr, flush=True)

    def write_timings(self, timings: Json) -> None:
        """Write timings, which differ between runs and are therefore no output of the stage."""
        write_json(self.root / "timings" / f"{self.label}.json", timings)

    def record_stage(self, seconds: float) -> None:
        """Add wall-clock time, revision and machine of the whole stage to its timings, under the key `stage`."""
        path = self.root / "timings" / f"{self.label}.json"
        timings = read_json(path) if path.exists() else {}
        ran = {"seconds": seconds, "revision": revision(self.root), **describe_machine()}
        self.write_timings({**timings, "stage": ran})

    def clear_scratch(self) -> None:
        """Remove all scratch checkpoints of this stage, after its outputs were written."""
        shutil.rmtree(self.root / SCRATCH / self.label, ignore_errors=True)


def read_section(file: Path, key: str, kind: Any) -> Any:
    """Read the section `key`, such as `sources.fetch`, of a resolved file as the spec class or union `kind`."""
    value = yaml.safe_load(file.read_text(encoding="utf-8"))
    for part in key.split("."):
        value = value[part]
    return TypeAdapter(kind).validate_python(value)


def read_stage(name: str, item: str = "", root: Path = Path()) -> Run:
    """The `Run` of a stage, from its declaration in dvc.yaml. Raises StageError if dvc.yaml does not have the stage."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    if name not in stages:
        raise StageError(f"dvc.yaml has no stage {name}")
    stage = stages[name]
    if ("matrix" in stage) != bool(item):
        raise StageError(f"stage {name} needs {'one item of its matrix' if 'matrix' in stage else 'no item'}")

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
    """Run a stage's `main` with its lock, threads and seeds. Errors are printed as one line, with exit code 1.

    The first argument of the command line is the item of the stage's matrix, if it has one.
    """
    started = time.monotonic()
    try:
        run = read_stage(name, sys.argv[1] if len(sys.argv) > 1 else "")
        require_checkout()
        die_with_parent()
        if "hardware.device" in run.sections:
            set_loggers(run.section("hardware.loggers", tuple[LoggerName, ...]))
        if is_rank():  # the stage that started it holds the lock, and writes the outputs
            prepare(run.section("hardware.device", DeviceSpec))
            main(run)
            raise StageError(f"a rank of {os.environ[TRAINING]} did not find its training in this stage")
        lock = acquire(run)
        if "hardware.device" in run.sections:
            device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
            prepare(device_spec)
            if device_spec.ranks > 1:
                set_launch(Launch(run.section("hardware.launcher", str), (f"stages.{name}", *sys.argv[1:])))
        run.log("started")
        main(run)
        run.clear_scratch()
        run.record_stage(time.monotonic() - started)
        run.log(f"done in {time.monotonic() - started:.0f} s")
        lock.close()
    except (StageError, CheckpointError, yaml.YAMLError, ValueError, OSError) as error:
        if os.environ.get("ROBOALIGN_TRACEBACK"):
            raise
        line = " ".join(name_origins(str(error)).split())
        print(f"[{name}] error: {line} (ROBOALIGN_TRACEBACK=1 shows where)", file=sys.stderr)
        raise SystemExit(1) from None


def name_origins(message: str, root: Path = Path()) -> str:
    """Add file and line, such as specs/experiments/smoke.yaml:21, after each field in a message that a file sets.

    Stages read resolved sections without positions, so a separate process runs `roboalign show --origins`.
    """

    def origin(field: re.Match[str]) -> str:
        command = [sys.executable, "-m", "roboalign", "--root", str(root), "show", field[0], "--origins"]
        lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        place = lines[0].rpartition("# ")[2] if len(lines) == 1 else "default"
        return field[0] if place == "default" else f"{field[0]} ({place})"

    return FIELD.sub(origin, message)


def require_checkout() -> None:
    """Raise StageError if roboalign was imported from outside this checkout, whose code DVC hashes."""
    checkout, module = Path.cwd().resolve(), Path(roboalign.__file__).resolve()
    if not module.is_relative_to(checkout):
        raise StageError(
            f"roboalign was imported from {module.parent}, not from this checkout; run stages by `dvc repro`"
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
    """Lock the stage until the returned file is closed. Raises StageError if another process has the lock."""
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
    """Set the number of threads, determinism, and the global random seeds. Raises StageError without a CUDA device if
    the spec needs one."""
    torch.set_num_threads(device.threads)
    set_determinism(device.accelerator)
    require_accelerator(device.accelerator)
    if device.accelerator == "cuda" and is_rank():
        torch.cuda.set_device(local_rank())  # so that "cuda" is this rank's device for frozen models, too
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries that draw from the global generator
    torch.manual_seed(0)


def require_accelerator(name: str) -> None:
    """Raise StageError if `name` is cuda and torch finds no CUDA device."""
    if name == "cuda" and not torch.cuda.is_available():
        raise StageError(
            "hardware.device.accelerator is cuda, but torch finds no CUDA device; set it to cpu or use a GPU machine"
        )


def set_determinism(device: str) -> None:
    """Make torch use deterministic algorithms; on a GPU, those without one only warn."""
    if not device.startswith("cpu"):  # cuBLAS reads it before its first product
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=not device.startswith("cpu"))
    # Filling uninitialised memory takes 5 % of a step and is not needed, because no code reads it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
