"""The sampler against Hugging Face's: `python -m benchmarks.sampler [--size default] [--size paper] [--write]`.

One LLaMA with the same weights (drawn at random, exported in Hugging Face's layout) rolls out the same prompts under
the same actions, greedily: by `Sampler`, and by `LlamaForCausalLM.generate` with its own cache, kept from frame to
frame, and all but the dynamics ids ruled out. Each runs in a process of its own, so that peak memory is its own; one
after the other, so that they do not disturb each other. Of several runs the fastest counts, because many machines are
shared. Where G rollouts share a prompt, `Sampler` reads it once.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.results import machine, record
from roboalign.spec.training import TrainingSpec
from roboalign.world_model.huggingface import LlamaVocabulary, export_llama, import_llama
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel, discretise
from roboalign.world_model.sampler import Sampler
from roboalign.world_model.spec import TokenActionsSpec, WorldModelSpec

BINS = 256


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
    runs: int
    """How often each contender rolls out, after a first time that warms up."""


SIZES = {
    "default": Size(4, 128, 4, 1, 352, TokenShape(64, 32, (8, 5, 5, 5), (8, 5, 5, 5), 7), 32, 1, 8, 7),
    "paper": Size(12, 768, 12, 12, 3072, TokenShape(1280, 80, (7, 5, 5, 5, 5), (7, 5, 5, 5, 5), 13), 1, 8, 2, 2),
}


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


def ours(size: Size, folder: Path, device: str) -> tuple[torch.Tensor, float]:
    """Tokens (rollouts, frames, Nd) and seconds of the fastest run."""
    training = TrainingSpec(steps=1, batch_size=1, learning_rate=0.1)
    model = import_llama(folder, size.shape, training, bins=BINS).to(device)
    context, actions = (tensor.to(device) for tensor in inputs(size))
    mask = torch.ones(size.prompts, size.shape.action_width, dtype=torch.bool, device=device)
    seeds = torch.zeros(len(actions), dtype=torch.long, device=device)
    sampler = Sampler(model, temperature=0.0)

    def run() -> torch.Tensor:
        state = sampler.start(context, mask, seeds, size.frames, groups=size.group)
        return torch.stack([sampler.step(state, action) for action in actions.unbind(1)], 1)

    return timed(run, size.runs, device)


def theirs(size: Size, folder: Path, device: str) -> tuple[torch.Tensor, float]:
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

    return timed(run, size.runs, device)


def timed(run: Callable[[], torch.Tensor], runs: int, device: str) -> tuple[torch.Tensor, float]:
    """What `run` gives, and the seconds of the fastest of so many calls, after one that warms up."""
    tokens, fastest = run(), math.inf
    for _ in range(runs):
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        tokens = run()
        if device == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - began)
    return tokens.cpu(), fastest


def contend(name: str, size: str, folder: Path, device: str) -> None:
    """One contender, in this process: its figures to `folder`."""
    tokens, seconds = (ours if name == "ours" else theirs)(SIZES[size], folder, device)
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    np.save(folder / f"{name}.npy", tokens.numpy())
    (folder / f"{name}.json").write_text(json.dumps({"seconds": seconds, "peak": peak}))


def compare(size: str, device: str) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(SIZES[size], folder)
        for contender in ("theirs", "ours"):
            arguments = ["--contender", contender, "--size", size, "--folder", name, "--device", device]
            subprocess.run([sys.executable, "-m", "benchmarks.sampler", *arguments], check=True)
        tokens = {each: np.load(folder / f"{each}.npy") for each in ("ours", "theirs")}
        figures = {each: json.loads((folder / f"{each}.json").read_text()) for each in ("ours", "theirs")}
    same = float((tokens["ours"] == tokens["theirs"]).mean())
    speed = {each: tokens[each].size / figures[each]["seconds"] for each in figures}
    peak = {each: figures[each]["peak"] / 2**20 for each in figures}
    chosen = SIZES[size]
    return (
        f"| {size}: {chosen.layers} x {chosen.hidden}, {chosen.kv_heads} of {chosen.heads} heads have keys, "
        f"{chosen.prompts * chosen.group} rollouts of {chosen.prompts} "
        f"prompts, {chosen.frames} frames | {same:.2%} | {speed['ours']:.0f} | {speed['theirs']:.0f} | "
        f"{speed['ours'] / speed['theirs']:.2f} | {peak['ours']:.0f} | {peak['theirs']:.0f} |"
    )


def main() -> None:
    """Measure and print the table; `--write` keeps it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", choices=[*SIZES], help="which sizes; all by default")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/RESULTS.md")
    parser.add_argument("--contender", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = arguments.size or [*SIZES]
    if arguments.contender:
        contend(arguments.contender, sizes[0], arguments.folder, arguments.device)
        return
    import transformers

    lines = [
        f"`python -m benchmarks.sampler`: {machine()}",
        f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads, "
        f"{arguments.device}.",
        "",
        "| size | same greedy tokens | ours, tokens/s | transformers, tokens/s | ratio | our peak MiB | theirs |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size in sizes:
        lines.append(compare(size, arguments.device))
        print(lines[-1], flush=True)
    if arguments.write:
        record(f"Sampler ({arguments.device})", "\n".join(lines))


if __name__ == "__main__":
    main()
