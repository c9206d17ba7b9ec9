"""The memory of each stage at the paper's sizes: `python -m benchmarks.memory [--episodes N] [--frames T] [--write]`.

The table comes from the formulas of `plan` (roboalign/spec/memory.py). Parameters and encoded contexts are compared
with the models themselves, built without memory on the meta device, and the activations of a layer with what autograd
keeps of one on the CPU. `--write` puts the table into docs/memory.md.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from roboalign.rl.grpo import token_log_probabilities
from roboalign.spec.activations import activation_bytes, policy_activations
from roboalign.spec.compose import compose
from roboalign.spec.document import COMMAND_LINE
from roboalign.spec.estimates import estimates
from roboalign.spec.experiment import Experiment
from roboalign.spec.library import Library
from roboalign.spec.memory import GIGA, stage_memory
from roboalign.tokenizer.model import build_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import Layer, WorldModel, rotary
from roboalign.world_model.spec import WorldModelSpec

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/memory.md"
START, END = "<!-- benchmarks/memory.py -->", "<!-- end -->"
EXPERIMENTS = ("paper", "align_rt1")


def load_experiment(name: str) -> Experiment:
    """An experiment under specs/experiments/."""
    return compose(Library(ROOT), name, COMMAND_LINE).require()


def context_numbers(spec: TokenizerSpec) -> int:
    """Numbers of an encoded context frame, counted on the meta device."""
    with torch.device("meta"):
        tokenizer = build_tokenizer(spec).eval()
        context = tokenizer._context(torch.empty(1, 3, spec.height, spec.width))[0]
    return sum(tensor.numel() for tensor in (*context.features, context.pixels))


def saved_bytes(module: nn.Module, run: Callable[[], Tensor], precision: str) -> int:
    """Bytes that autograd keeps of a forward pass, counted on the CPU, without weights and buffers."""
    found = dict[int, int]()
    excluded = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in excluded:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true"),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        kept = run()  # while it lives, so do the tensors that it keeps
    # In mixed precision, products keep their weights in 2 bytes, once for all tokens.
    cast = sum(2 * parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)
    assert kept.requires_grad
    return sum(found.values()) - (cast if precision != "32-true" else 0)


def kept_bytes(spec: WorldModelSpec, precision: str, length: int = 64) -> float:
    """Bytes that autograd keeps of one token in one layer."""
    layer = Layer(spec)
    for name, angles in zip(("cosines", "sines"), rotary(spec.head_width, length, spec.rope_base), strict=True):
        layer.register_buffer(name, angles)
    x = torch.randn(1, length, spec.hidden_size, requires_grad=True)
    return saved_bytes(layer, lambda: layer(x, layer.cosines, layer.sines), precision) / length


def kept_bytes_of_group(experiment: Experiment) -> int:
    """Bytes that autograd keeps of the rollouts of a group, which share their context, in a policy of `experiment`."""
    rl, shape = experiment.rl, TokenShape.of(experiment.tokenizer, 4)
    model = WorldModel(experiment.world_model, shape)
    rows = rl.group_size, rl.horizon
    context = torch.zeros(1, shape.context_tokens + shape.dynamics_tokens, dtype=torch.long)
    dynamics = torch.zeros(*rows, shape.dynamics_tokens, dtype=torch.long)
    actions, mask = torch.zeros(*rows, shape.action_width), torch.ones(rl.group_size, shape.action_width)

    def run() -> Tensor:
        return token_log_probabilities(model(context, dynamics, actions, mask), dynamics, rl.temperature)[0].sum()

    return saved_bytes(model, run, experiment.hardware.device.precision)


def checks(experiment: Experiment) -> Iterator[str]:
    """How far the formulas are from the models, as lines of a list."""
    tokenizer, model = experiment.tokenizer, experiment.world_model
    counted = context_numbers(tokenizer)
    yield f"encoded context: {4 * counted / 1e6:.1f} MB, formula {4 * tokenizer.encoded_context / 1e6:.1f} MB"
    one_layer = replace(experiment, world_model=model.model_copy(update={"layers": 1}))
    found, formula = kept_bytes_of_group(one_layer), policy_activations(one_layer, experiment.rl.group_size)
    yield (
        f"alignment, a group of {experiment.rl.group_size} rollouts in a policy of one layer: {found / 1e9:.2f} GB on "
        f"the CPU, formula {formula / 1e9:.2f} GB ({formula / found - 1:+.1%})"
    )
    shape = TokenShape.of(tokenizer, 13)
    with torch.device("meta"):
        numbers = sum(parameter.numel() for parameter in WorldModel(model, shape).parameters())
    yield f"world model: {numbers:,} parameters"
    for precision in ("32-true", "bf16-mixed"):
        measured, formula = kept_bytes(model, precision), activation_bytes(model, precision)
        yield (
            f"activations of a token in a layer, {precision}: {measured / 1e3:.1f} kB on the CPU, formula "
            f"{formula / 1e3:.1f} kB ({formula / measured - 1:+.1%})"
        )


def table(experiment: Experiment, episodes: int, frames: int) -> str:
    """The memory of each stage as a Markdown table, with its largest parts."""
    parts = {memory.stage: memory for memory in stage_memory(experiment, episodes, frames)}
    lines = ["| stage | GPU, GB | RAM, GB | largest parts, GB |", "| --- | ---: | ---: | --- |"]
    for row in estimates(experiment, episodes):
        if row.memory_gb is None:
            continue
        memory = parts[row.part]
        largest = sorted({**memory.device, **memory.host}.items(), key=lambda item: -item[1])[:3]
        named = ", ".join(f"{name} {size / GIGA:.1f}" for name, size in largest if size >= 0.05 * GIGA)
        lines.append(f"| `{row.part}` | {row.memory_gb:.1f} | {row.ram_gb or 0:.1f} | {named} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables and the checks; `--write` puts them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--write", action="store_true", help="write docs/memory.md")
    arguments = parser.parse_args()
    blocks = []
    for name in EXPERIMENTS:
        experiment = load_experiment(name)
        found = "\n".join(f"- {line}" for line in checks(experiment))
        blocks.append(f"### `{name}`\n\n{table(experiment, arguments.episodes, arguments.frames)}\n\n{found}")
    text = "\n\n".join(blocks)
    print(text)
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page[: page.index(START) + len(START)], page[page.index(END) :]
        PAGE.write_text(f"{before}\n\n{text}\n\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
