"""How fast a store is read, beside LeRobot's own loader on the same files.

python -m benchmarks.store PYTHON [--clips N] [--write]

PYTHON is an interpreter that has `lerobot[dataset]`; where it can load torchcodec, that decoder is measured too. Both
sides read the same clips of 16 frames with their actions: at random, and one after the other through the store; in one
process, and with two workers of torch's DataLoader. LeRobot is asked for 8-bit frames, which spares it a conversion.
Our reader decodes with two threads or more in a process of its own, and with one in a worker; LeRobot with its default.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.lerobot_reads_store import run_side
from benchmarks.results import machine, record
from roboalign.store import EpisodeStore, EpisodeWriter, StorageSpec
from roboalign.types import Episode, UInt8

FPS = 10
LENGTH = 50
CLIP = 16
BATCH = 8
STORES = {"png": (64, 64, 200), "h264": (256, 320, 60)}
"""Way to keep frames: height, width, episodes."""


def scene(number: int, height: int, width: int) -> UInt8:
    """LENGTH frames of a textured table, a gripper and a block that it moves, with a camera's noise."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(60, 200, (height // 8, width // 8, 3)).astype(np.uint8)
    table = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    start, end = rng.uniform(0.2, 0.8, 2), rng.uniform(0.2, 0.8, 2)
    size = height // 10
    frames = []
    for t in np.linspace(0, 1, LENGTH):
        frame = table.copy()
        for centre, colour in (((1 - t) * start + t * end, (40, 60, 220)), (end, (230, 200, 30))):
            v, u = (centre * (height, width)).astype(int)
            frame[max(v - size, 0) : v + size, max(u - size, 0) : u + size] = colour
        frames.append(np.clip(frame + rng.normal(0, 1.5, frame.shape), 0, 255).astype(np.uint8))
    return np.stack(frames)


def written(folder: Path, kind: str) -> tuple[Path, float]:
    """A store, and the frames a second that it was written at."""
    height, width, episodes = STORES[kind]
    seconds = 0.0
    storage = StorageSpec.model_validate({"kind": kind})
    with EpisodeWriter(folder / kind, fps=FPS, storage=storage) as writer:
        for number in range(episodes):
            actions = np.random.default_rng(number).normal(size=(LENGTH, 7)).astype(np.float32)
            frames = scene(number, height, width)
            start = time.perf_counter()
            writer.add(
                Episode(
                    f"e{number}", "scene", "push", "push the block", "unknown", f"s{number}", "train", frames, actions
                )
            )
            seconds += time.perf_counter() - start
    return folder / kind, episodes * LENGTH / seconds


def clips_of(pattern: str, episodes: int, count: int) -> list[int]:
    """Numbers of the first frames of `count` clips, over the whole store."""
    if pattern == "random":
        rng = np.random.default_rng(0)
        return [int(rng.integers(episodes) * LENGTH + rng.integers(LENGTH - CLIP + 1)) for _ in range(count)]
    inside = range(0, LENGTH - CLIP + 1, CLIP)
    return [episode * LENGTH + start for episode in range(episodes) for start in inside][:count]


class Clips(Dataset[dict[str, Tensor]]):
    """The clips through our own reader."""

    def __init__(self, store: EpisodeStore, starts: list[int]) -> None:
        self.store, self.starts = store, starts

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        episode, start = divmod(self.starts[number], LENGTH)
        frames = torch.from_numpy(self.store.frames(episode, start, start + CLIP)).permute(0, 3, 1, 2)
        actions = torch.from_numpy(self.store.actions(episode)[start : start + CLIP])
        return {"frames": frames, "action": actions}


def ours(folder: Path, work: dict[str, Any]) -> dict[str, float]:
    """As `lerobot_side.speed`, with our reader."""
    torch.set_num_threads(1)
    clips = Clips(EpisodeStore(folder), work["starts"])
    _ = clips[0]
    start, frames = time.perf_counter(), 0
    if work["workers"]:
        for number, batch in enumerate(DataLoader(clips, batch_size=work["batch"], num_workers=work["workers"])):
            if number == 0:  # the workers have begun
                start = time.perf_counter()
            else:
                frames += batch["frames"].shape[0] * CLIP
    else:
        for number in range(len(clips)):
            frames += len(clips[number]["frames"])
    seconds = time.perf_counter() - start
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"frames": frames, "seconds": seconds, "megabytes": max(usage) / 1024}


def run_ours(folder: Path, works: list[dict[str, Any]]) -> list[dict[str, float]]:
    """In a process of its own, so that memory is that of reading alone."""
    command = [sys.executable, "-m", "benchmarks.store", "--side", str(folder), json.dumps(works)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: list[dict[str, float]] = json.loads(done.stdout)
    return result


def run_theirs(python: str, folder: Path, works: list[dict[str, Any]], home: Path) -> list[dict[str, float]]:
    """LeRobot's side, in its interpreter: with workers in a process that has opened no decoder before."""
    results: dict[int, dict[str, float]] = {}
    for workers in {work["workers"] for work in works}:
        own = [number for number, work in enumerate(works) if work["workers"] == workers]
        text = run_side(python, "speed", str(folder), json.dumps([works[n] for n in own]), home=home)
        results |= dict(zip(own, json.loads(text.splitlines()[-1]), strict=True))
    return [results[number] for number in range(len(works))]


def backends(python: str, home: Path) -> list[str]:
    """LeRobot's video decoders that its interpreter can load."""
    code = "import torchcodec.decoders"
    loads = subprocess.run([python, "-c", code], capture_output=True, check=False, cwd=home).returncode == 0
    return ["torchcodec", "pyav"] if loads else ["pyav"]


def measure(python: str, clips: int, rounds: int) -> list[dict[str, Any]]:
    """All figures. Rounds of both sides alternate, and the best of each counts: a busy machine slows single rounds."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        found = backends(python, home)
        for kind, (height, width, episodes) in STORES.items():
            folder, writing = written(home, kind)
            print(f"{kind}: written at {writing:.0f} frames/s", flush=True)
            common = {"length": CLIP, "batch": BATCH, "uint8": True}
            works = [
                {**common, "starts": clips_of(pattern, episodes, clips), "workers": workers, "pattern": pattern}
                for pattern in ("random", "in order")
                for workers in (0, 2)
            ]
            decoders = found if kind == "h264" else ["pyav"]
            best: dict[tuple[str, int], dict[str, float]] = {}
            for _ in range(rounds):
                results = {"ours": run_ours(folder, works)}
                for name in decoders:
                    tasks = [{**work, "backend": name} for work in works]
                    results[name] = run_theirs(python, folder, tasks, home / "hf")
                for name, each in results.items():
                    for number, result in enumerate(each):
                        rate = result["frames"] / result["seconds"]
                        if rate > best.get((name, number), {"rate": 0.0})["rate"]:
                            best[name, number] = {"rate": rate, "megabytes": result["megabytes"]}
            for number, work in enumerate(works):
                for name in decoders:
                    row = {
                        "frames": f"{kind.upper()} {height}x{width}",
                        "pattern": work["pattern"],
                        "workers": work["workers"],
                        "decoder": name if kind == "h264" else "Pillow",
                        "ours": best["ours", number],
                        "lerobot": best[name, number],
                    }
                    rows.append(row)
                    print(line(row), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    mine, theirs = row["ours"], row["lerobot"]
    return (
        f"| {row['frames']} | {row['pattern']} | {row['workers'] or 'none'} | {mine['rate']:.0f} | "
        f"{theirs['rate']:.0f} ({row['decoder']}) | {mine['rate'] / theirs['rate']:.1f} | "
        f"{mine['megabytes']:.0f} / {theirs['megabytes']:.0f} |"
    )


def main() -> None:
    """Measure, print, and with `--write` keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("python")
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = measure(options.python, options.clips, options.rounds)
    head = "| frames | clips of 16 | workers | ours, frames/s | LeRobot, frames/s | ratio | peak MB, ours / LeRobot |"
    table = "\n".join([head, "|" + " --- |" * 7, *map(line, rows)])
    notes = "Videos: groups of 8 frames, crf 18. Our reader decodes with a thread a core, in workers with one."
    text = f"`python -m benchmarks.store`: {machine()}\n\n{table}\n\n{notes}\n"
    print(text)
    if options.write:
        record("Reading a store", text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        print(json.dumps([ours(Path(sys.argv[2]), work) for work in json.loads(sys.argv[3])]))
    else:
        main()
