"""The figures of one GPU in one run: `python -m benchmarks.gpu [--size paper] [--device cuda] [--output FILE.json]`.

Measures, with random weights and data of the sizes of an experiment:

- the limits of the device: the rates of matrix products and of reading memory;
- decoding with the sampler's settings, with and without CUDA graphs, beside the limit of reading matrices and caches;
- an alignment step by phase: sample, decode, score, policy, reference, backward, optimizer;
- training steps of tokenizer, world model and student: seconds, and their operations (counted by torch) as a share of
  the rate of matrix products (MFU).

Peak memory stands beside the estimate of `plan`. Batches are those of one device of the experiment. On a GPU each
section is a process of its own, with a time limit, so that a section that fails is reported and the others go on.
`--size small` takes seconds on a CPU.
"""

import argparse
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu_setup import EXPERIMENTS, ROOT, Clock, Row, Setup
from benchmarks.gpu_steps import measure_alignment, measure_student, measure_tokenizer, measure_world_model
from benchmarks.results import machine, record
from benchmarks.sampler import SETTINGS, LaunchCounter, memory_rate, step_bytes
from roboalign.hardware.spec import SamplerSpec
from roboalign.world_model.sampler import Sampler

SECTION_SECONDS = 150
"""Time limit of a section that runs in a process of its own."""


def measure_limits(setup: Setup) -> list[Row]:
    """The best rates of matrix products and of a product with a vector."""
    side, best = (8192 if setup.device.type == "cuda" else 512), 0.0
    a, b = (torch.randn(side, side, device=setup.device, dtype=setup.dtype) for _ in range(2))
    for _ in range(10):
        clock = Clock(setup.device)
        with clock.phase("mm"):
            torch.mm(a, b)
        best = max(best, 2.0 * side**3 / clock.seconds["mm"])
    rate = memory_rate(setup.device.type)
    return [{"what": "limits", "TFLOP/s": best / 1e12, "GB/s": rate / 1e9}]


def measure_decoding(setup: Setup) -> list[Row]:
    """Greedy rollouts of two frames by each setting, with as many prompts and rollouts as an alignment step has."""
    rl, model, rows = setup.experiment.rl, setup.world_model().eval(), list[Row]()
    prompts, frames, shape = setup.batch_size(rl.training), 2, model.shape
    context = setup.codes(shape.context_codes, prompts, shape.context_tokens * model.spec.contexts)
    context = torch.cat([context, setup.codes(shape.dynamics_codes, prompts, shape.dynamics_tokens)], 1)
    context = context.repeat_interleave(rl.group_size, 0)
    count, mask = len(context), torch.ones(len(context), shape.action_width, dtype=torch.bool, device=setup.device)
    actions = setup.random(count, frames, shape.action_width) * 2 - 1
    seeds = torch.arange(count, device=setup.device)
    for name, fields in SETTINGS.items():
        if fields.get("compile") and setup.device.type != "cuda":
            continue
        try:
            block = {} if fields else {"block": max(16, count)}  # on a GPU, launches cost more than padded rows
            sampler = Sampler(model, temperature=1.0, spec=SamplerSpec(**fields, **block))
            clock = Clock(setup.device)
            for part in ("first", "start"):
                with clock.phase(part):
                    state = sampler.start(context, mask, seeds, frames)
                # A graph is recorded at the second call.
                for number in range(frames):
                    with clock.phase(f"{part}, frame {number}"):
                        sampler.step(state, actions[:, number])
            launches = None
            if not fields.get("compile"):
                state = sampler.start(context, mask, seeds, frames)
                with LaunchCounter() as counter:
                    sampler.step(state, actions[:, 0])
                launches = counter.count / shape.dynamics_tokens
            seconds = sum(clock.seconds[f"start, frame {number}"] for number in range(frames)) / frames
            read = step_bytes(sampler, state, frames)
            limit = setup.memory_rate / read * count
            speed = count * shape.dynamics_tokens / seconds
            rows.append(
                {
                    "what": f"decode, {name}: {count} rollouts of {prompts} prompts",
                    "seconds a frame": seconds,
                    "prompts, seconds": clock.seconds["start"],
                    "first call, seconds": clock.seconds["first, frame 0"],
                    "tokens/s": speed,
                    "launches a token": launches,
                    "MB a token": read / count / 1e6,
                    "of the bandwidth limit": speed / limit if limit else None,
                    "peak GB": setup.peak(),
                }
            )
        except Exception as error:  # a setting that fails leaves the others
            rows.append({"what": f"decode, {name}", "failed": f"{type(error).__name__}: {error}"[:300]})
    return rows


SECTIONS: dict[str, Callable[[Setup], list[Row]]] = {
    "limits": measure_limits,
    "decoding": measure_decoding,
    "alignment": measure_alignment,
    "world_model": measure_world_model,
    "tokenizer": measure_tokenizer,
    "student": measure_student,
}


def run_section(name: str, setup: Setup, alone: bool) -> list[Row]:
    """The rows of a section; one that tells the error if it fails. `alone` runs it in a process of its own."""
    try:
        if not alone:
            return SECTIONS[name](setup)
        rates = ["--rates", str(setup.product_rate), str(setup.memory_rate)]
        arguments = ["--size", setup.size, "--device", setup.device.type, "--section", name, "--child", *rates]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.gpu", *arguments],
            check=True, capture_output=True, text=True, timeout=SECTION_SECONDS, cwd=ROOT,
        )  # fmt: skip
        rows: list[Row] = json.loads(done.stdout.splitlines()[-1])
        return rows
    except subprocess.CalledProcessError as error:
        return [{"what": name, "failed": error.stderr.strip()[-600:]}]
    except Exception as error:  # whatever it is, the other sections go on
        return [{"what": name, "failed": f"{type(error).__name__}: {error}"[:600]}]


def show(row: Row) -> str:
    """A row of the table: what it is, then each figure with its name."""
    figures = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items())
    return f"| {row['what']} | " + "; ".join(list(figures)[1:]) + " |"


def measure(size: str, device: str, sections: list[str], output: Path | None = None) -> list[Row]:
    """All rows, printed as they come and written to a JSON file with what they were measured on."""
    setup, rows, began = Setup(size, torch.device(device)), list[Row](), time.monotonic()
    for name in ["limits", *(name for name in sections if name != "limits")]:
        found = run_section(name, setup, alone=device == "cuda" and name != "limits")
        if name == "limits" and "TFLOP/s" in found[0]:
            setup = Setup(size, setup.device, found[0]["TFLOP/s"] * 1e12, found[0]["GB/s"] * 1e9)
        for row in found:
            print(show({key: value for key, value in row.items() if value is not None}), flush=True)
        rows += found
        if output is not None:
            report = {
                "device": torch.cuda.get_device_name() if device == "cuda" else machine(),
                "torch": torch.__version__,
                "date": datetime.date.today().isoformat(),
                "size": size,
                "seconds": time.monotonic() - began,
                "rows": rows,
            }
            output.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return rows


def main() -> None:
    """Measure and print the table; `--write` keeps it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="paper", choices=[*EXPERIMENTS])
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--section", action="append", choices=[*SECTIONS], help="which sections; all by default")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/RESULTS.md")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rates", type=float, nargs=2, default=(0.0, 0.0), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        setup = Setup(options.size, torch.device(options.device), *options.rates)
        print(json.dumps(SECTIONS[options.section[0]](setup)))
        return
    rows = measure(options.size, options.device, options.section or [*SECTIONS], options.output)
    if options.write:
        name = torch.cuda.get_device_name() if options.device == "cuda" else machine()
        text = f"`python -m benchmarks.gpu --size {options.size}`: {name}, torch {torch.__version__}.\n\n"
        kept = ({key: value for key, value in row.items() if value is not None} for row in rows)
        record(f"GPU ({options.device})", text + "| measured | figures |\n| --- | --- |\n" + "\n".join(map(show, kept)))


if __name__ == "__main__":
    main()
