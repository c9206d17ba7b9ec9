"""A checkout of a very small experiment over toy episodes, whose trainings write several scratch checkpoints each."""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import yaml

from roboalign import run as runs
from roboalign.io import write_json
from roboalign.store import ActionRange, EpisodeWriter
from roboalign.types import Episode, Split
from tests.conftest import toy_episode

ROOT = Path(__file__).parents[2]
SOURCE = "fetch"
"""A source that specs/ has. Its episodes are toy ones here, so that nothing is rendered."""
SPLITS: dict[Split, int] = {"train": 24, "validation": 6, "test": 6}
"""Episodes of each split: enough for three probes and the bench."""

TRAININGS: dict[str, dict[str, Any]] = {
    "hardware.device": {"threads": 1},
    "hardware.micro_batches": {"tokenizer": 2, "world_model": 2, "student": 2, "rl": 3, "rl_sampling": 2},
    "bench": {"pairs": 24},
    "tokenizer": {"widths": [8, 16], "warps": 0},
    "tokenizer.training": {"steps": 16, "batch_size": 2, "checkpoint_every": 2, "log_every": 3},
    "world_model": {"hidden_size": 32, "intermediate_size": 64, "ema_decay": 0.9},
    "world_model.training": {"steps": 24, "batch_size": 2, "checkpoint_every": 3, "log_every": 2},
    "probe.judge.training": {"steps": 16, "batch_size": 2, "checkpoint_every": 2, "log_every": 3},
    "probe.judge.outcome.training": {"steps": 24, "checkpoint_every": 3, "log_every": 2},
    "judge.training": {"steps": 24, "checkpoint_every": 3, "log_every": 2},
    "student.training": {"steps": 24, "checkpoint_every": 3, "log_every": 2},
    "rl.training": {"steps": 8, "checkpoint_every": 1, "log_every": 1},
    "rl.guard": {"every": 3, "prompts": 2},
    "rl.measure": {"prompts": 2},
}
"""Values that are set over those of the smoke experiment."""


def toy_corpus() -> list[Episode]:
    """Episodes of 12 frames of 32x32."""
    splits: list[Split] = [split for split, count in SPLITS.items() for _ in range(count)]
    return [
        replace(toy_episode(number, split=split), source=SOURCE, id=f"{SOURCE}/{number:06d}")
        for number, split in enumerate(splits)
    ]


def write_experiment(root: Path, values: Mapping[str, Mapping[str, Any]] = TRAININGS) -> None:
    """A checkout at `root` in which all stages before the tokenizer have run."""
    root.mkdir()
    for name in ("roboalign", "stages", "specs", "annotations"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", root)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["use"]["experiment"], params["sources"] = "smoke", [SOURCE]
    params["set"] = {f"{path}.{name}": value for path, fields in values.items() for name, value in fields.items()}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run([sys.executable, "-m", "stages.compose"], cwd=root, check=True)
    episodes = toy_corpus()
    with EpisodeWriter(root / "artifacts/episodes" / SOURCE, fps=10.0) as writer:
        for episode in episodes:
            writer.add(episode)
    scale = ActionRange.over([episode.actions for episode in episodes])
    listed = {
        "folder": f"episodes/{SOURCE}",
        "episodes": len(episodes),
        "frames": sum(len(episode.frames) for episode in episodes),
        "action_low": scale.low,
        "action_high": scale.high,
    }
    write_json(root / "artifacts/sources/index.json", {"sources": {SOURCE: listed}})


def run_in_child(root: Path, log: Path, name: str, item: str) -> None:
    """Run a stage as `python -m stages.NAME ITEM` does, in this process."""
    os.chdir(root)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    runs.require_checkout = lambda: None  # the code of this checkout runs on the other one's files
    sys.argv = [name, *([item] if item else [])]
    runs.execute(name, importlib.import_module(f"stages.{name}").main)


def preload(stages: Sequence[str]) -> None:
    """Have the stages' code loaded once, in the process that the stages' processes are forked from."""
    heavy = ("lightning.pytorch", "timm", "torchmetrics.image.fid", "stlpips_pytorch")
    get_context("forkserver").set_forkserver_preload([__name__, *heavy, *(f"stages.{name}" for name in stages)])


def start_stage(root: Path, log: Path, name: str, item: str = "") -> ForkServerProcess:
    """Start a stage in a process of its own, which prints to `log`."""
    process = get_context("forkserver").Process(target=run_in_child, args=(root, log, name, item))
    process.start()
    return process


def run_stage(root: Path, log: Path, name: str, item: str = "") -> str:
    """Run a stage to its end; what it printed."""
    process = start_stage(root, log, name, item)
    process.join(900)
    printed = log.read_text()
    assert process.exitcode == 0, printed[-4000:]
    return printed
