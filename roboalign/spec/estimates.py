"""Analytic estimates: parameters, tokens, memory and time of each part on the chosen hardware.

A multiply-add counts as 2 operations; a training step costs three forward passes. Memory is in memory.py. These are
orders of magnitude for planning; the report has measured times.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

from roboalign.hardware.spec import HardwareSpec
from roboalign.judge.spec import JudgeSpec, RegressionJudgeSpec
from roboalign.probe.spec import ProbeName, ProbeSpec
from roboalign.reward.spec import RewardModelSpec
from roboalign.rl.spec import GRPOSpec
from roboalign.sources.spec import SimulatedRobotSpec
from roboalign.spec.activations import policy_tokens
from roboalign.spec.experiment import Experiment
from roboalign.spec.memory import DATA_SET, stage_memory
from roboalign.student.spec import StudentSpec
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.world_model.spec import WorldModelSpec

GIGA = 1e9
BACKWARD = 3
"""Cost of a training step, in forward passes."""
WEIGHT = 4
"""Bytes of a weight."""
IMPORTED = "imported weights, nothing is trained"
STATE = 16
"""Bytes of weight, gradient and optimizer moments for each trained parameter."""
LAYER_ACTIVATIONS = 14
"""Activations of width `hidden_size` that a transformer layer keeps for the backward pass of one token (our count)."""
BACKBONE_OPERATIONS, BACKBONE_ACTIVATIONS = 1_400, 24
"""Operations of a backbone for each activation that it keeps (of a ViT), and the minimum number of activations kept for
each input pixel."""
CONVOLUTIONS, TRANSFORMERS, SAMPLING = 0.44, 0.8, 0.25
"""Fraction of the matrix-product rate that training of each kind and sampling reach, measured with the default
experiment on two CPU cores."""
LATENCY = 2e-4
"""Minimum time of one layer for one token in seconds, on CPU and GPU: call overhead, not arithmetic."""
BACKBONES = {
    ("test_convnext", 0): (7_224, 867),
    ("test_convnext", 1): (30_472, 1_573),
    ("test_convnext", 2): (121_592, 2_271),
    ("test_convnext", 3): (207_000, 2_435),
    ("resnet18", 4): (11_176_512, 72_288),
    ("resnet50", 4): (23_508_032, 162_912),
    ("convnext_tiny", 3): (27_818_592, 177_566),
    ("vit_small_patch16_224", 11): (21_664_896, 183_295),
    ("vit_base_patch16_224", 11): (85_892_352, 716_602),
}
"""timm backbones up to a level: (parameters, operations of a forward pass for each input pixel)."""
LEVELS = {name: max(level for other, level in BACKBONES if other == name) for name, _ in BACKBONES}
"""The last level of each backbone, the value of -1."""
LIBRARIES = 0.6
"""GB that Python, torch and the data in memory take without any model, measured on a CPU."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated size of one part's stage; a field is None if it does not apply or is not known."""

    part: str
    parameters: int | None
    tokens: int | None
    memory_gb: float | None
    """GB on one device; with `cpu`, of RAM."""
    seconds: float | None
    work: str
    """Work of the stage, such as `400 steps of 8 sequences`."""
    ram_gb: float | None = None
    """GB of RAM beside a GPU; None with `cpu`."""
    field: str = ""
    """The field to lower if the memory does not suffice."""


def estimates(experiment: Experiment, episodes: int | None = None) -> list[Estimate]:
    """One estimate for each part that computes with a model; see `stage_memory` for `episodes`."""
    memories = {memory.stage: memory for memory in stage_memory(experiment, episodes)}
    on_cpu = experiment.hardware.device.accelerator == "cpu"
    rows = []
    for row in estimate_parts(experiment):
        memory = memories[row.part]
        # The device's part of judges and student is estimated with their sizes.
        device = memory.device_gb + LIBRARIES if memory.device else row.memory_gb
        if on_cpu and device is not None:
            # The stage's own process has the libraries already, unless others compute.
            others = memory.processes if memory.processes > 1 else 0
            device = memory.host_gb + (others * device if others else device - LIBRARIES)
        ram = None if on_cpu else memory.host_gb
        rows.append(replace(row, memory_gb=device, ram_gb=ram, field=memory.field))
    return rows


def estimate_parts(experiment: Experiment) -> Iterator[Estimate]:
    """The estimates in the order of the stages."""
    hardware, tokenizer, model = experiment.hardware, experiment.tokenizer, experiment.world_model
    training = tokenizer.training
    clips = training.batch_size * tokenizer.samples.frames
    yield Estimate(
        "tokenizer",
        tokenizer.parameters,
        tokenizer.context_tokens + tokenizer.dynamics_tokens,
        None,
        training.steps * clips * BACKWARD * convolution_flops(tokenizer) / rate(hardware, CONVOLUTIONS),
        f"{training.steps} steps of {training.batch_size} x {tokenizer.samples.frames} frames"
        if training.steps
        else IMPORTED,
    )
    parameters, training = world_model_parameters(experiment), model.training
    tokens = tokenizer.context_tokens, tokenizer.dynamics_tokens
    if model.segment is not None:
        count = segment_count(experiment)
        operations = count * (1 + model.segment.frames) * convolution_flops(tokenizer) / 2
        work = f"{si(count)} segments of {model.segment.frames} frames"
        seconds = operations / rate(hardware, CONVOLUTIONS)
        yield Estimate("tokens", tokenizer.parameters, sum(tokens), None, seconds, work)
    length = model.sequence_tokens(*tokens, model.longest_trained)
    forward = transformer_flops(model, parameters, length)
    backward = BACKWARD + 1 if hardware.activation_checkpointing else BACKWARD
    yield Estimate(
        "world_model",
        parameters,
        length,
        None,
        training.steps * training.batch_size * backward * forward / rate(hardware, TRANSFORMERS),
        f"{training.steps} steps of {training.batch_size} sequences" if training.steps else IMPORTED,
    )
    size, tasks = (tokenizer.height, tokenizer.width), simulated_tasks(experiment)
    for name in get_args(ProbeName):
        yield probe_estimate(name, getattr(experiment.probe, name), size, tasks, hardware)
    yield bench_estimate(experiment)
    for part in ("judge", "held_out", "student"):
        yield scorer_estimate(part, getattr(experiment, part), experiment)
    rl, training = experiment.rl, experiment.rl.training
    rows = training.batch_size * rl.group_size
    length = model.sequence_tokens(*tokens, rl.decoding.peak_frames(rl.horizon))
    epochs = rl.optimizer.epochs if isinstance(rl.optimizer, GRPOSpec) else 1
    updated = math.ceil(rows / ranks(hardware) / hardware.micro_batches.rl)
    updates = (
        rows / updated * policy_tokens(experiment, updated)[0] * transformer_flops(model, parameters, length) / length
    )
    updates *= 1 + backward * epochs
    decoding = rows * rl.horizon * convolution_flops(tokenizer) / 2
    yield Estimate(
        "rl",
        parameters,
        length,
        None,
        training.steps
        * (
            sampling_seconds(experiment, rows, math.ceil(rows / hardware.micro_batches.rl_sampling), rl.horizon)
            + updates / rate(hardware, TRANSFORMERS)
            + decoding / rate(hardware, CONVOLUTIONS)
        ),
        f"{training.steps} steps of {training.batch_size} prompts x {rl.group_size} rollouts",
    )
    spec = experiment.rollout
    frame = model.frame_tokens(tokenizer.dynamics_tokens)
    peak = max(
        decoding.peak_sequence(spec.horizon, model.prefix_tokens(*tokens), frame)
        for decoding in spec.used_decodings.values()
    )
    names = [name for listed in spec.sampling.values() for name in listed]
    names += [name for name in names if name in spec.aligned_decodings]
    scored = max(spec.episodes, spec.scored_episodes)
    rollouts = spec.episodes * (len(names) + len(spec.sweep))
    rollouts += scored * (spec.best_of - 1) * len(spec.best_of_models)
    rollouts += (scored - spec.episodes) * names.count(spec.scored_decoding)
    decoding = rollouts * spec.horizon * convolution_flops(tokenizer) / 2
    yield Estimate(
        "rollout",
        parameters,
        peak,
        None,
        sampling_seconds(experiment, rollouts, spec.batch_size, spec.horizon) + decoding / rate(hardware, CONVOLUTIONS),
        f"{rollouts} rollouts of {spec.horizon} frames",
    )


def probe_estimate(name: str, probe: ProbeSpec, size: tuple[int, int], tasks: int, hardware: HardwareSpec) -> Estimate:
    """Estimate the training of one state probe.

    Args:
        name: `judge`, `held_out` or `gold`.
        probe: Its spec.
        size: Height and width of the images in pixels.
        tasks: Number of tasks with simulator states; the time is 0 if there are none.
        hardware: The device.
    """
    frames = probe.training.batch_size // probe.members * probe.frames
    operations = probe.training.steps * frames * BACKWARD * probe.operations(*size)
    return Estimate(
        f"probe.{name}",
        probe.parameters(tasks),
        None,
        None,
        operations / rate(hardware, CONVOLUTIONS) if tasks else 0.0,
        f"{probe.training.steps} steps of {probe.training.batch_size} x {probe.frames} frames; {tasks} tasks with "
        "states",
    )


def bench_estimate(experiment: Experiment) -> Estimate:
    """Estimate the generation of the bench's rollouts."""
    spec, tokenizer = experiment.bench, experiment.tokenizer
    origins = spec.origins.model_dump()
    shown = round(spec.pairs * origins["generated"] / sum(origins.values()))
    clips = [(shown, spec.generated.frames), *((g.prompts * g.size, g.frames) for g in spec.groups)]
    seconds = sum(sampling_seconds(experiment, count, spec.generated.batch_size, frames) for count, frames in clips)
    frames = sum(count * length for count, length in clips)
    seconds += frames * convolution_flops(tokenizer) / 2 / rate(experiment.hardware, CONVOLUTIONS)
    work = f"{sum(count for count, _ in clips)} generated clips"
    return Estimate("bench", world_model_parameters(experiment), None, None, seconds, work)


def simulated_tasks(experiment: Experiment) -> int:
    """Number of tasks with states, which are those of the simulated robots."""
    return sum(len(source.tasks) for source in experiment.sources.values() if isinstance(source, SimulatedRobotSpec))


def scorer_estimate(part: str, scorer: JudgeSpec | StudentSpec, experiment: Experiment) -> Estimate:
    """Estimate the training of a judge or the student; sizes are None if they are not known without loading it."""
    if not isinstance(scorer, RewardModelSpec):
        return Estimate(part, None, None, None, None, scorer.note)
    training = scorer.training
    work = f"{training.steps} steps of {training.batch_size} sets of clips"
    encoder, size = scorer.encoder, (experiment.tokenizer.height, experiment.tokenizer.width)
    members = scorer.members if isinstance(scorer, RegressionJudgeSpec) else 1
    clips, length = scorer.training.batch_size * scorer.set_size, encoder.frames + encoder.text.words + 2
    parameters = members * 12 * (encoder.layers + encoder.text.layers) * encoder.width**2
    # The operations of one member, because each member trains on its own part of the batch.
    sample = 2.0 * parameters / members * length
    activations = float(clips * length * LAYER_ACTIVATIONS * encoder.width * encoder.layers)
    if encoder.appearance is not None:
        appearance = encoder.appearance
        level = LEVELS.get(appearance.backbone, -1) if appearance.level == -1 else appearance.level
        known = BACKBONES.get((appearance.backbone, level))
        if known is None:
            return Estimate(part, None, length, None, None, f"{work}; the size of {appearance.backbone} is not known")
        weights, operations = known
        parameters += members * (weights + appearance.channels * appearance.grid**2 * encoder.width)
        length += appearance.frames
        sample += appearance.frames * operations * math.prod(size)
        pixels = clips * appearance.frames * math.prod(size)
        activations += pixels * max(BACKBONE_ACTIVATIONS, operations / BACKBONE_OPERATIONS)
    micro_batches = experiment.hardware.micro_batches
    parts = micro_batches.student if part == "student" else micro_batches.judge
    number = (2 if experiment.hardware.device.precision != "32-true" else 4) / ranks(experiment.hardware) / parts
    seconds = training.steps * clips * BACKWARD * sample / rate(experiment.hardware, CONVOLUTIONS)
    needed = memory(int(parameters), activations * number, training.steps)
    return Estimate(part, int(parameters), length, needed, seconds, work if training.steps else IMPORTED)


def sampling_seconds(experiment: Experiment, rollouts: int, batch: int, frames: int) -> float:
    """Seconds of sampling `rollouts` rollouts of `frames` frames token by token, `batch` rollouts at once.

    Each token of a batch takes at least LATENCY in each layer, independent of the device's arithmetic.
    """
    model, tokenizer = experiment.world_model, experiment.tokenizer
    tokens = tokenizer.context_tokens, tokenizer.dynamics_tokens
    length = model.sequence_tokens(*tokens, frames)
    operations = rollouts * transformer_flops(model, world_model_parameters(experiment), length)
    calls = math.ceil(rollouts / batch) * frames * tokenizer.dynamics_tokens
    return calls * model.layers * LATENCY + operations / rate(experiment.hardware, SAMPLING)


def segment_count(experiment: Experiment) -> int:
    """Training segments of all sources; of a source that takes all episodes of its data set, of DATA_SET episodes."""
    segment = experiment.world_model.segment
    if segment is None:
        return 0
    return sum(
        round((source.episodes or DATA_SET) * source.split.train)
        * -(-max(0, source.length - segment.frames) // segment.stride)
        for source in experiment.sources.values()
    )


def world_model_parameters(experiment: Experiment) -> int:
    """Number of parameters of the world model for this experiment's tokenizer and action widths."""
    tokenizer = experiment.tokenizer
    return experiment.world_model.parameters(
        tokenizer.context_tokens,
        tokenizer.dynamics_tokens,
        tokenizer.context_levels,
        tokenizer.dynamics_levels,
        max(source.action_width for source in experiment.sources.values()),
        max(source.proprioception_width for source in experiment.sources.values()),
    )


def convolution_flops(spec: TokenizerSpec) -> float:
    """Operations of encoding and decoding one frame and its context; only the residual blocks, which dominate."""
    block = [
        2 * 2 * 9 * width**2 * math.prod(spec.resolution(level)) * spec.residual_blocks
        for level, width in enumerate(spec.widths)
    ]
    branches = (spec.depth(spec.context_grid), spec.depth(spec.dynamics_grid))
    return float(sum(sum(block[:depth]) for depth in branches))


def transformer_flops(model: WorldModelSpec, parameters: int, length: int) -> float:
    """Operations of one forward pass over a sequence: products with the weights, and causal attention."""
    return 2.0 * parameters * length + 2.0 * model.layers * model.hidden_size * length**2


def memory(parameters: int, activations: float, steps: int = 1) -> float:
    """GB of memory for training: libraries, weights with optimizer state, activations (bytes); at 0 steps, weights."""
    return LIBRARIES + (STATE * parameters + activations if steps else WEIGHT * parameters) / GIGA


def ranks(hardware: HardwareSpec) -> int:
    """Number of devices over all nodes."""
    return hardware.device.ranks


def rate(hardware: HardwareSpec, utilization: float) -> float:
    """Operations per second over all devices at a fraction `utilization` of the matrix-product rate."""
    return hardware.limits.teraflops * 1e12 * ranks(hardware) * utilization


def table(rows: list[Estimate], hardware: HardwareSpec) -> str:
    """The estimates as a text table with aligned columns."""
    device = hardware.device
    count = f"{ranks(hardware)} x " if ranks(hardware) > 1 else ""
    ram = "" if device.accelerator == "cpu" else f", {hardware.limits.ram_gb:g} GB of RAM"
    head = (
        f"estimates for {count}{device.accelerator}, {device.precision}, {hardware.limits.teraflops:g} TFLOP/s and "
        f"{hardware.limits.memory_gb:g} GB each{ram}:"
    )
    cells = [("part", "parameters", "tokens", "memory", "RAM", "time", "")]
    for row in rows:
        cells.append(
            (
                row.part,
                "-" if row.parameters is None else si(row.parameters),
                "-" if row.tokens is None else str(row.tokens),
                "-" if row.memory_gb is None else f"{row.memory_gb:.1f} GB",
                "-" if row.ram_gb is None else f"{row.ram_gb:.1f} GB",
                "-" if row.seconds is None else duration(row.seconds),
                row.work,
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    lines = [
        "  " + f"{line[0]:<{widths[0]}}  " + "  ".join(f"{line[n]:>{widths[n]}}" for n in range(1, 6)) + f"  {line[6]}"
        for line in cells
    ]
    return "\n".join([head, *(line.rstrip() for line in lines), "  and about 5 to 10 s for each stage to start"])


def si(number: int) -> str:
    """A number with three digits and a unit: 1234567 is `1.23 M`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def duration(seconds: float) -> str:
    """A time with a unit: days, hours, minutes or seconds."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
