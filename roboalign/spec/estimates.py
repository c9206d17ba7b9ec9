"""Analytic estimates: parameters, tokens, memory and time of each part on the chosen hardware.

Operations are counted as 2 a multiply-add; a training step costs three forward passes. The memory of training is
16 bytes a parameter (weight, gradient, AdamW's two moments, at 4 bytes each) and the activations kept for the backward
pass. These are orders of magnitude for planning, not measurements: what was measured is in the report.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from roboalign.hardware.spec import HardwareSpec
from roboalign.rollout.spec import peak_sequence
from roboalign.spec.experiment import Experiment
from roboalign.spec.training import TrainingSpec
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.world_model.spec import WorldModelSpec

GIGA = 1e9
BACKWARD = 3
"""A training step over a forward pass."""
STATE = 16
"""Bytes of weight, gradient and optimizer moments for each trained parameter."""
KEPT = 14
"""Activations of width `hidden` that a transformer layer keeps for the backward pass of one token (our count)."""
LIBRARIES = 0.6
"""GB that Python, torch and the data in memory take before any model, measured on a CPU."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The sizes of one part's stage; None where a figure means nothing for the part."""

    part: str
    parameters: int | None
    tokens: int | None
    memory_gb: float
    seconds: float
    what: str


def estimates(experiment: Experiment) -> list[Estimate]:
    """One estimate for each part that computes with a model."""
    return [*parts(experiment)]


def parts(experiment: Experiment) -> Iterator[Estimate]:
    """The parts in the order of their stages."""
    hardware, tokenizer, model = experiment.hardware, experiment.tokenizer, experiment.world_model
    number = 2 if hardware.device.precision != "32-true" else 4
    clips = tokenizer.training.batch * tokenizer.samples.frames
    yield Estimate(
        "tokenizer",
        tokenizer.parameters,
        tokenizer.context_tokens + tokenizer.dynamics_tokens,
        memory(tokenizer.parameters, convolution_floats(tokenizer) * clips * number / ranks(hardware)),
        training_seconds(tokenizer.training, convolution_flops(tokenizer) * tokenizer.samples.frames, hardware),
        f"{tokenizer.training.steps} steps of {tokenizer.training.batch} clips",
    )
    parameters = world_model_parameters(experiment)
    length = model.sequence_tokens(tokenizer.context_tokens, tokenizer.dynamics_tokens, model.segment.frames)
    yield Estimate(
        "world_model",
        parameters,
        length,
        memory(parameters, kept_floats(model, length) * model.training.batch * number / ranks(hardware)),
        training_seconds(model.training, transformer_flops(model, parameters, length), hardware),
        f"{model.training.steps} steps of {model.training.batch} sequences",
    )
    rl = experiment.rl
    rows = rl.training.batch * rl.group
    rollout = model.sequence_tokens(tokenizer.context_tokens, tokenizer.dynamics_tokens, rl.horizon)
    forward = transformer_flops(model, parameters, rollout)
    step = rows * (forward * (2 + BACKWARD * rl.epochs) + convolution_flops(tokenizer) / 2 * rl.horizon)
    yield Estimate(
        "rl",
        parameters,
        rollout,
        memory(parameters, kept_floats(model, rollout) * rows * number / ranks(hardware)),
        rl.training.steps * step / rate(hardware),
        f"{rl.training.steps} steps of {rl.training.batch} prompts x {rl.group} rollouts",
    )
    spec = experiment.rollout
    frame = model.frame_tokens(tokenizer.dynamics_tokens)
    peak = max(
        peak_sequence(spec.decoding(name), spec.horizon, tokenizer.context_tokens, frame) for name in spec.decodings
    )
    whole = tokenizer.context_tokens + spec.horizon * frame
    made = spec.episodes * (len(spec.decodings) + len(spec.aligned_decodings) + spec.best_of + len(spec.sweep))
    yield Estimate(
        "rollout",
        parameters,
        peak,
        LIBRARIES + (parameters * 4 + model.cache_bytes(peak, spec.batch)) / GIGA,
        made * (transformer_flops(model, parameters, whole) + convolution_flops(tokenizer) / 2 * spec.horizon)
        / rate(hardware),
        f"{made} rollouts of {spec.horizon} frames",
    )  # fmt: skip


def world_model_parameters(experiment: Experiment) -> int:
    """Parameters of the world model over this experiment's tokenizer and sources."""
    tokenizer = experiment.tokenizer
    return experiment.world_model.parameters(
        tokenizer.context_tokens,
        tokenizer.dynamics_tokens,
        tokenizer.context_levels,
        tokenizer.dynamics_levels,
        max(source.action_width for source in experiment.sources.values()),
    )


def convolution_floats(spec: TokenizerSpec) -> float:
    """Activations kept for the backward pass of one frame: four in each residual block of the four networks."""
    cells = sum(width * prod(spec.resolution(level)) for level, width in enumerate(spec.widths))
    return 4 * 4 * spec.blocks * cells


def convolution_flops(spec: TokenizerSpec) -> float:
    """Operations of encoding and decoding one frame and its context: the residual blocks, which take nearly all."""
    block = [
        2 * 2 * 9 * width**2 * prod(spec.resolution(level)) * spec.blocks for level, width in enumerate(spec.widths)
    ]
    branches = (spec.depth(spec.context_grid), spec.depth(spec.dynamics_grid))
    return float(2 * sum(sum(block[:depth]) for depth in branches))


def kept_floats(model: WorldModelSpec, length: int) -> float:
    """Activations kept for the backward pass of one sequence; attention is computed without keeping its matrix."""
    return length * model.layers * (KEPT * model.hidden + 3 * model.ffn)


def transformer_flops(model: WorldModelSpec, parameters: int, length: int) -> float:
    """Operations of one forward pass over a sequence: the weights, and attention to all earlier tokens."""
    return 2.0 * parameters * length + 2.0 * model.layers * model.hidden * length**2


def training_seconds(training: TrainingSpec, sample: float, hardware: HardwareSpec) -> float:
    """Seconds of a training run whose forward pass costs `sample` operations for one sample."""
    return training.steps * training.batch * BACKWARD * sample / rate(hardware)


def memory(parameters: int, activations: float) -> float:
    """GB of training: libraries, weights with their optimizer, activations (bytes)."""
    return LIBRARIES + (STATE * parameters + activations) / GIGA


def ranks(hardware: HardwareSpec) -> int:
    """Devices in all."""
    return hardware.device.devices * hardware.device.nodes


def rate(hardware: HardwareSpec) -> float:
    """Operations a second over all devices: the matrix-product rate, of which models reach about a third."""
    return hardware.limits.teraflops * 1e12 * ranks(hardware) / 3


def table(rows: list[Estimate], hardware: HardwareSpec) -> str:
    """The estimates as aligned text."""
    device = hardware.device
    count = f"{ranks(hardware)} x " if ranks(hardware) > 1 else ""
    head = (
        f"estimates for {count}{device.accelerator}, {device.precision}, {hardware.limits.teraflops:g} TFLOP/s and "
        f"{hardware.limits.memory_gb:g} GB each:"
    )
    cells = [("part", "parameters", "tokens", "memory", "time", "")]
    for row in rows:
        cells.append(
            (
                row.part,
                "-" if row.parameters is None else si(row.parameters),
                "-" if row.tokens is None else str(row.tokens),
                f"{row.memory_gb:.1f} GB",
                duration(row.seconds),
                row.what,
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = [
        "  " + f"{line[0]:<{widths[0]}}  " + "  ".join(f"{line[n]:>{widths[n]}}" for n in range(1, 5)) + f"  {line[5]}"
        for line in cells
    ]
    return "\n".join([head, *(line.rstrip() for line in lines)])


def si(number: int) -> str:
    """1234567 as `1.23 M`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"
