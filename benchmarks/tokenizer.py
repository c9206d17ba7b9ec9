"""Our tokenizer beside a plain convolutional VQ autoencoder, diffusers' VQModel.

python -m benchmarks.tokenizer --python PYTHON [--artifacts FOLDER] [--vq 16x16 ...] [--seconds S] [--write]

PYTHON is an interpreter that has `diffusers` and torch. An experiment that was run gives the frames and the trained
tokenizer (`--artifacts`). VQModels of several sizes are trained on the frames of the same training episodes, each for
as much CPU time as our own training takes on this machine now (its step timed, times its steps; `--seconds` sets
another budget). Their codes are as many as ours has for a later frame, and their loss is our absolute and squared error
without our extra weight on what moves and on gripper and object: it favours PSNR. Their batch and learning rate did
best in short trials on training frames (8 against 32 frames, .001 against .003).

PSNR is that of the later frames of the test episodes which the tokenizer stage evaluates, a mean over episodes with its
95 % interval. A VQModel sees each frame by itself; ours sees its context too, whose features are computed once for a
whole rollout and are at hand when a frame is encoded or decoded, as in a rollout: the context's own time is told apart.
Batches of 16 are frames of 16 contexts.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from benchmarks.results import machine, record
from roboalign.hardware.spec import DeviceSpec
from roboalign.metrics.statistics import Interval, bootstrap
from roboalign.metrics.video import psnr
from roboalign.run import prepare
from roboalign.store import Corpus
from roboalign.tokenizer.data import TokenizerClips, channels_first, evenly_spaced_indices
from roboalign.tokenizer.lit import TokenizerModule
from roboalign.tokenizer.model import DualBranchTokenizer, load_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.training import fit
from roboalign.video import to_float

SIDE = Path(__file__).parent / "vqmodel_side.py"
SIZES = {"8x8": [16, 32, 64, 64], "16x16 narrow": [8, 16, 32], "16x16": [16, 32, 32]}
"""Channels of a VQModel at each resolution, by its grid of tokens for 64 pixels."""
BATCH, RATE = 8, 3e-3
"""Frames a step and learning rate of the VQModels."""
BATCHES = (1, 16)


class Clock(Callback):
    """CPU seconds at each step's start."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        """Also the end of the step before."""
        self.marks.append(time.process_time())


def budget(spec: TokenizerSpec, train: Corpus, threads: int) -> float:
    """CPU seconds of our whole training: a step's median, times the steps."""
    short = spec.training.model_copy(update={"steps": 17})
    clock, module = Clock(), TokenizerModule(DualBranchTokenizer(spec), spec)
    clips = TokenizerClips(train, spec.samples, (spec.height, spec.width), 0)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            module, clips, short, DeviceSpec(threads=threads), label="ours", scratch=Path(folder),
            curves=Path(folder) / "curve.tsv", callbacks=(clock,),
        )  # fmt: skip
    return float(np.median(np.diff(clock.marks)[2:])) * spec.training.steps


def evaluated(corpus: Corpus, spec: TokenizerSpec) -> list[tuple[Tensor, Tensor]]:
    """The context frame (3, H, W) and the later frames (F, 3, H, W), uint8, that are measured of each episode."""
    found = []
    for number, info in enumerate(corpus.infos):
        video = channels_first(corpus.frames(number))
        found.append(
            (video[0], video[list(evenly_spaced_indices(info.length, spec.samples.horizon, spec.samples.evaluated))])
        )
    return found


def rate(call: Callable[[], object], frames: int) -> float:
    """Frames a second: the best of a second's worth of calls."""
    call()
    best, until = math.inf, time.perf_counter() + 1
    while time.perf_counter() < until:
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return frames / best


def ours(model: DualBranchTokenizer, clips: list[tuple[Tensor, Tensor]]) -> tuple[Interval, dict[str, Any], float]:
    """PSNR, speeds by batch size, and the seconds of one context."""
    values = []
    with torch.inference_mode():
        for first, later in clips:
            target = to_float(later)[None]
            context = model.encode_context(to_float(first)[None])
            values.append(psnr(model.decode(context, model.encode(context, target)), target).mean().item())
        speeds: dict[str, Any] = {}
        for size in BATCHES:
            firsts = to_float(torch.stack([clips[number % len(clips)][0] for number in range(size)]))
            frames = to_float(torch.stack([clips[number % len(clips)][1][:1] for number in range(size)]))
            context = model.encode_context(firsts)
            tokens = model.encode(context, frames)
            speeds[str(size)] = {
                "encode": rate(partial(model.encode, context, frames), size),
                "decode": rate(partial(model.decode, context, tokens), size),
            }
        once = 1 / rate(partial(model.encode_context, firsts[:1]), 1)
    return bootstrap(np.array(values)), speeds, once


def theirs(python: str, job: dict[str, Any], clips: list[tuple[Tensor, Tensor]]) -> tuple[Interval, dict[str, Any]]:
    """PSNR of a VQModel that is trained now, and the side's figures."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(job["threads"])}
    done = subprocess.run(
        [python, str(SIDE), json.dumps(job)], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{python} {SIDE.name} failed")
    outputs, values = torch.from_numpy(np.load(job["out"])), []
    for _, later in clips:
        values.append(psnr(outputs[None, : len(later)], to_float(later)[None]).mean().item())
        outputs = outputs[len(later) :]
    return bootstrap(np.array(values)), json.loads(done.stdout.splitlines()[-1])


def line(name: str, parameters: int, tokens: str, score: Interval, speeds: dict[str, Any]) -> str:
    """A row of the table."""
    figures = " | ".join(f"{speeds[str(size)][way]:.0f}" for way in ("encode", "decode") for size in BATCHES)
    return (
        f"| {name} | {parameters / 1e6:.2f} M | {tokens} | {score.mean:.2f} [{score.low:.2f}, {score.high:.2f}] | "
        f"{figures} |"
    )


def main() -> None:
    """Measure, print, and with `--write` keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--python", required=True, help="an interpreter that has diffusers")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="of an experiment that was run")
    parser.add_argument("--vq", action="append", choices=[*SIZES], help="which VQModels; all by default")
    parser.add_argument("--seconds", type=float, default=0.0, help="CPU seconds of training instead of our own's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/RESULTS.md")
    options = parser.parse_args()
    prepare(DeviceSpec(threads=options.threads))
    model = load_tokenizer(options.artifacts / "tokenizer/model.safetensors")
    spec, corpus = model.spec, Corpus.open(options.artifacts / "sources/index.json")
    train, clips = corpus.filter(split="train"), evaluated(corpus.filter(split="test"), spec)
    own = budget(spec, train, options.threads)
    seconds = options.seconds or own
    score, speeds, once = ours(model, clips)
    rows = [line("ours", spec.parameters, f"{spec.dynamics_tokens} of {spec.dynamics_codes}", score, speeds)]
    print(f"{seconds:.0f} CPU seconds of training\n{rows[0]}", flush=True)
    found: dict[str, tuple[Interval, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(
            folder / "train.npy", np.concatenate([channels_first(train.frames(n)).numpy() for n in range(len(train))])
        )
        np.save(folder / "test.npy", torch.cat([later for _, later in clips]).numpy())
        job: dict[str, Any] = {part: str(folder / f"{part}.npy") for part in ("train", "test", "out")}
        job |= {"codes": spec.dynamics_codes, "seconds": seconds, "batch": BATCH, "learning_rate": RATE}
        job |= {"threads": options.threads, "loss": [spec.loss.l1, spec.loss.mse], "speeds": BATCHES}
        for size in options.vq or [*SIZES]:
            found[size] = theirs(options.python, job | {"channels": SIZES[size]}, clips)
            its, figures = found[size]
            tokens = f"{figures['tokens']} of {spec.dynamics_codes} ({figures['used']} used)"
            rows.append(line(f"VQModel {size}", figures["parameters"], tokens, its, figures["speeds"]))
            print(f"{rows[-1]} {figures['steps']} steps", flush=True)
    nearest = min(found, key=lambda size: abs(found[size][0].mean - score.mean))
    its, figures = found[nearest]
    faster = ", ".join(
        f"{speeds[str(size)][way] / figures['speeds'][str(size)][way]:.1f} times ({way} at batch {size})"
        for way in ("encode", "decode")
        for size in BATCHES
    )
    text = "\n".join(
        [
            f"`python -m benchmarks.tokenizer`: {machine()}",
            f"torch {torch.__version__}, diffusers {figures['diffusers']}, {options.threads} threads; each VQModel "
            f"trained for {seconds:.0f} CPU seconds; our training takes {own:.0f}.",
            "Frames a second: of one frame at a time, and of 16 at once.",
            "",
            "| tokenizer | parameters | tokens a frame | PSNR, dB | encoded/s, 1 | 16 | decoded/s, 1 | 16 |",
            "|" + " --- |" * 8,
            *rows,
            "",
            f"Nearest in PSNR is VQModel {nearest}, at {its.mean - score.mean:+.2f} dB of ours. Ours has "
            f"{spec.parameters / figures['parameters']:.2f} times its parameters and "
            f"{figures['tokens'] / spec.dynamics_tokens:.0f} times fewer tokens; its frames a second are {faster}. "
            f"Its context, computed once for a rollout, takes {once * 1e3:.1f} ms.",
        ]
    )
    print(text)
    if options.write:
        record("Tokenizer", text)


if __name__ == "__main__":
    sys.exit(main())
