"""The sampler against Hugging Face's: `python -m benchmarks.sampler [--size default] [--size paper] [--write]`.

One LLaMA with the same weights (drawn at random, exported in Hugging Face's layout) rolls out the same prompts under
the same actions, greedily: by `Sampler` in several settings, and by `LlamaForCausalLM.generate` with its own cache,
kept from frame to frame, and all but the dynamics ids ruled out. Each contender is a process of its own, so that peak
memory is its own. They roll out in turn, so that other work on the machine meets all of them, and of the rounds the
fastest of each counts. On a CPU that other work shares, `--processor-time` counts the seconds that the process computed
(take one thread: OMP_NUM_THREADS=1). `--revision` adds the sampler of an earlier revision.

*Launches a token* are the operators that a step of one token calls, views excepted. *Bytes a token* is what a step has
to read, the matrices and the cached keys and values of its sequences, by its number of rollouts. The *limit* is the
rate at which a matrix-vector product reads memory, measured in each round. Matrices that fit into the processor's
caches are not read from memory: there the share says little.
"""

import argparse
import inspect
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.results import machine, record
from roboalign.spec.training import TrainingSpec
from roboalign.world_model.huggingface import LlamaVocabulary, export_llama, import_llama
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel, discretise
from roboalign.world_model.spec import TokenActionsSpec, WorldModelSpec

BINS = 256
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "fast": {"batch_invariant": False},
    "fast, bf16": {"batch_invariant": False, "precision": "bf16-true"},
    "fast, compiled": {"batch_invariant": False, "compile": True},
    "fast, bf16, compiled": {"batch_invariant": False, "precision": "bf16-true", "compile": True},
}
"""Fields of `SamplerSpec`."""
PEER = "transformers"


@dataclass(frozen=True)
class Size:
    """A model, its tokens, and what is rolled out."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    shape: TokenShape
    prompts: int
    group: int
    """Rollouts that share a prompt."""
    frames: int
    rounds: int
    """How often each contender rolls out, after a first time that warms up."""


SIZES = {
    "default": Size(4, 128, 4, 1, 352, TokenShape(64, 32, (8, 5, 5, 5), (8, 5, 5, 5), 7), 32, 1, 8, 7),
    "paper": Size(12, 768, 12, 12, 3072, TokenShape(1280, 80, (7, 5, 5, 5, 5), (7, 5, 5, 5, 5), 13), 1, 8, 2, 2),
    "paper-2": Size(2, 768, 12, 12, 3072, TokenShape(1280, 80, (7, 5, 5, 5, 5), (7, 5, 5, 5, 5), 13), 1, 8, 1, 2),
}
"""`paper-2` has two of the paper's twelve layers, for a quick look."""


def build(size: Size, folder: Path) -> None:
    """Write a model with large random weights, so that codes differ in likelihood by more than arithmetic does.

    Seed 0 draws one token, in 8,192, whose two likeliest codes lie 4e-7 apart in float64: float32 cannot order them.
    """
    spec = WorldModelSpec(
        layers=size.layers, hidden_size=size.hidden, heads=size.heads, kv_heads=size.kv_heads,
        intermediate_size=size.ffn, max_position_embeddings=4096,
        actions=TokenActionsSpec(kind="tokens", bins=BINS, width=size.shape.action_width), embedding="table",
        previous_codes=False, places=False, training=TrainingSpec(steps=1, batch_size=1, learning_rate=0.1),
    )  # fmt: skip
    torch.manual_seed(1)
    model = WorldModel(spec, size.shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.1)
    export_llama(model, folder)


def inputs(size: Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Context codes (prompts, Nc + Nd) and actions (rollouts, frames, A)."""
    generator = torch.Generator().manual_seed(1)
    context = torch.randint(size.shape.context_codes, (size.prompts, size.shape.context_tokens), generator=generator)
    still = torch.zeros(size.prompts, size.shape.dynamics_tokens, dtype=torch.long)
    actions = torch.rand(size.prompts * size.group, size.frames, size.shape.action_width, generator=generator) * 2 - 1
    return torch.cat([context, still], 1), actions


Run = Callable[[], Tensor]
"""Rolls out and returns the tokens (rollouts, frames, Nd)."""


class LaunchCounter(TorchDispatchMode):
    """Counts calls of operators that compute; views, which only describe memory, are free."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and call."""
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        self.count += alias is None or alias.is_write
        return func(*args, **(kwargs or {}))


def prepare_ours(size: Size, folder: Path, device: str, setting: str) -> tuple[Run, Callable[[], dict[str, float]]]:
    """Our sampler in a setting, or that of an earlier revision if it is the one that is imported."""
    from roboalign.world_model.sampler import Sampler

    training = TrainingSpec(steps=1, batch_size=1, learning_rate=0.1)
    model = import_llama(folder, size.shape, training, bins=BINS).to(device)
    context, actions = (tensor.to(device) for tensor in inputs(size))
    options: dict[str, Any] = {}
    if "groups" in inspect.signature(Sampler.start).parameters:
        sampler, options = Sampler(model, temperature=0.0), {"groups": size.group}
    else:
        from roboalign.hardware.spec import SamplerSpec

        sampler = Sampler(model, temperature=0.0, spec=SamplerSpec(**SETTINGS[setting]))
        context = context.repeat_interleave(size.group, 0)
    mask = torch.ones(len(context), size.shape.action_width, dtype=torch.bool, device=device)
    seeds = torch.zeros(len(actions), dtype=torch.long, device=device)

    def run() -> Tensor:
        state = sampler.start(context, mask, seeds, size.frames, **options)
        return torch.stack([sampler.step(state, action) for action in actions.unbind(1)], 1)

    def figures() -> dict[str, float]:
        if options:
            return {}
        state = sampler.start(context, mask, seeds, size.frames)
        found = {"bytes": step_bytes(sampler, state, size.frames) / state.rows}
        if not sampler.spec.compile:
            with LaunchCounter() as counter:
                sampler.step(state, actions[:, 0])
            found["launches"] = counter.count / size.shape.dynamics_tokens
        return found

    return run, figures


def step_bytes(sampler: Any, state: Any, frames: int) -> float:
    """Bytes of matrices, keys and values that a step of one token reads, at the mean length of the sequences."""
    layers, spec, layout = sampler.model.layers, sampler.model.spec, sampler.model.layout
    number = 2 if sampler.spec.precision == "bf16-true" else 4
    matrices = sum(parameter.numel() for parameter in layers.parameters() if parameter.ndim == 2)
    head = 4 * spec.hidden_size * sampler.model.shape.dynamics_codes
    shared, length = state.cache.shared_tokens, (layout.prefix + layout.length(frames)) / 2
    cached = (length - shared) * state.rows + (state.cache.shared.shape[2] * shared if shared else 0)
    return float(number * (matrices + spec.cache_bytes(1, width=1) * cached) + head)


def prepare_theirs(size: Size, folder: Path, device: str) -> Run:
    """The same by transformers."""
    import transformers

    transformers.logging.set_verbosity_error()
    model = transformers.LlamaForCausalLM.from_pretrained(folder, use_safetensors=True).eval().to(device)
    words = LlamaVocabulary.of_rlvr_world(size.shape, BINS)
    context, actions = (tensor.to(device) for tensor in inputs(size))
    prompt = words.context + context[:, : size.shape.context_tokens].repeat_interleave(size.group, 0)
    bins = words.actions + discretise(actions, BINS)
    codes = slice(words.dynamics, words.dynamics + size.shape.dynamics_codes)

    def only_dynamics(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        kept = torch.full_like(scores, float("-inf"))
        kept[:, codes] = scores[:, codes]
        return kept

    count = size.shape.dynamics_tokens
    processors = transformers.LogitsProcessorList([only_dynamics])

    def run() -> torch.Tensor:
        cache, sequence, frames = transformers.DynamicCache(), prompt, []
        for frame in range(size.frames):
            sequence = torch.cat([sequence, bins[:, frame]], 1)
            with torch.inference_mode():
                sequence = model.generate(
                    sequence,
                    attention_mask=torch.ones_like(sequence),
                    past_key_values=cache,
                    max_new_tokens=count,
                    min_new_tokens=count,
                    do_sample=False,
                    logits_processor=processors,
                    pad_token_id=words.size - 1,
                )
            frames.append(sequence[:, -count:] - words.dynamics)
        return torch.stack(frames, 1)

    return run


def serve(contender: str, size: str, folder: str, device: str, clock: str) -> None:
    """A contender's process: a line of standard input is a round, whose seconds are printed; the end writes figures."""
    run, figures = (
        (prepare_theirs(SIZES[size], Path(folder), device), dict)
        if contender == PEER
        else prepare_ours(SIZES[size], Path(folder), device, contender)
    )
    tokens = run()
    print("ready", flush=True)
    for _ in sys.stdin:
        synchronise(device)
        began = seconds(clock)
        tokens = run()
        synchronise(device)
        print(seconds(clock) - began, flush=True)
    on_gpu = device == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.save(Path(folder) / f"{contender}.npy", tokens.cpu().numpy())
    (Path(folder) / f"{contender}.json").write_text(json.dumps(figures() | {"peak": peak}))


def synchronise(device: str) -> None:
    """Wait for all that was asked of the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(clock: str) -> float:
    """Seconds of a clock: `wall`, or `processor` for those that this process computed."""
    return time.process_time() if clock == "processor" else time.perf_counter()


def memory_rate(device: str, clock: str = "wall") -> float:
    """Bytes a second that a product of a large matrix with a vector reads; the best of three."""
    matrix, vector, best = torch.ones(4096, 16384, device=device), torch.ones(16384, device=device), math.inf
    for _ in range(3):
        synchronise(device)
        began = seconds(clock)
        torch.mv(matrix, vector)
        synchronise(device)
        best = min(best, seconds(clock) - began)
    return matrix.numel() * 4 / best


@contextmanager
def earlier_package(revision: str | None) -> Iterator[Path]:
    """A folder with the package of a revision; the present one if None."""
    if revision is None:
        yield Path.cwd()
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", revision, "roboalign"], check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def start(contender: str, arguments: list[str], package: Path) -> "subprocess.Popen[str]":
    """The process of a contender."""
    paths = f"sys.path[:0] = [{str(package)!r}, {os.getcwd()!r}]"
    code = f"import sys; {paths}; from benchmarks.sampler import serve; serve(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, contender, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def compare(name: str, device: str, settings: list[str], rounds: int, revision: str | None, clock: str) -> list[str]:
    """The rows of one size."""
    size, contenders = SIZES[name], [PEER, *([revision] if revision else []), *settings]
    with tempfile.TemporaryDirectory() as folder, earlier_package(revision) as package:
        build(size, Path(folder))
        processes = {}
        for each in contenders:
            processes[each] = start(each, [name, folder, device, clock], package if each == revision else Path.cwd())
            assert processes[each].stdout.readline().strip() == "ready"
        taken, rate = {each: list[float]() for each in contenders}, 0.0
        for _ in range(rounds or size.rounds):
            rate = max(rate, memory_rate(device, clock))
            for each, process in processes.items():
                process.stdin.write("\n")
                process.stdin.flush()
                taken[each].append(float(process.stdout.readline()))
        for process in processes.values():
            process.communicate()
        tokens = {each: np.load(Path(folder) / f"{each}.npy") for each in contenders}
        figures = {each: json.loads((Path(folder) / f"{each}.json").read_text()) for each in contenders}
    fastest = {each: min(values) for each, values in taken.items()}
    print(
        f"{name}: {rate / 1e9:.1f} GB/s; seconds of each round:",
        {k: [round(s, 3) for s in v] for k, v in taken.items()},
    )
    rows = []
    for each in contenders:
        speed, found = tokens[each].size / fastest[each], figures[each]
        byte, launches = found.get("bytes"), found.get("launches")
        rows.append(
            f"| {name} | {each} | {(tokens[each] == tokens[PEER]).mean():.2%} | {speed:.0f} | "
            f"{fastest[PEER] / fastest[each]:.2f} | {'-' if launches is None else f'{launches:.0f}'} | "
            + (f"{byte / 1e6:.2f} | {speed * byte / rate:.1%} | " if byte else "- | - | ")
            + f"{found['peak'] / 2**20:.0f} |"
        )
    return rows


def describe(name: str) -> str:
    """A size in words."""
    size = SIZES[name]
    return (
        f"`{name}`: {size.layers} x {size.hidden}, {size.kv_heads} of {size.heads} heads have keys, "
        f"{size.prompts * size.group} rollouts of {size.prompts} prompts, {size.frames} frames"
    )


def main() -> None:
    """Measure and print the table; `--write` keeps it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", choices=[*SIZES], help="which sizes; all by default")
    parser.add_argument("--setting", action="append", choices=[*SETTINGS], help="of our sampler; by default all")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=0, help="timed rollouts of each contender")
    parser.add_argument("--revision", help="compare with the sampler of this revision, too")
    parser.add_argument("--processor-time", action="store_true", help="count the seconds that a process computed")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    import transformers

    sizes, clock = arguments.size or [*SIZES], "processor" if arguments.processor_time else "wall"
    settings = arguments.setting or [name for name in SETTINGS if arguments.device == "cuda" or "compiled" not in name]
    lines = [
        f"`python -m benchmarks.sampler`: {machine()}",
        f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads, "
        f"{arguments.device}, {clock} time. {'; '.join(describe(size) for size in sizes)}.",
        "",
        "| size | sampler | same greedy tokens | tokens/s | of transformers' | launches a token | MB a token | "
        "of the bandwidth limit | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size in sizes:
        for row in compare(size, arguments.device, settings, arguments.rounds, arguments.revision, clock):
            lines.append(row)
            print(row, flush=True)
    if arguments.write:
        record(f"Sampler ({arguments.device})", "\n".join(lines))


if __name__ == "__main__":
    main()
