"""The memory that each stage needs at its peak, on the device and in RAM, by what takes it; `plan` shows it.

Nothing that grows with the data set is kept on a device. In RAM, only what identifies episodes, segments and pairs
grows; frames are read when they are needed, or lie in files. Sizes are in bytes. A process needs LIBRARIES besides.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from roboalign.bench.spec import BenchSpec
from roboalign.hardware.spec import HardwareSpec
from roboalign.probe.spec import ProbeName
from roboalign.reward.spec import RewardModelSpec
from roboalign.rl.spec import FirstOrderSpec
from roboalign.sources.spec import SimulatedRobotSpec
from roboalign.spec.activations import (
    FLOAT,
    decoder_activations,
    number_bytes,
    policy_activations,
    segment_activations,
)
from roboalign.spec.experiment import Experiment
from roboalign.spec.sizes import Sizes

GIGA = 1e9
LIBRARIES = 0.6e9
"""Python, torch and the code of a process, measured on a CPU."""
CODE = 8
"""Bytes of a code."""
TRAINED = 16
"""Bytes of weight, gradient and AdamW's two moments for each trained parameter."""
EPISODE = 1_500
"""Bytes of an episode without its frames: id, task, instruction, location in its store."""
SEGMENT = 200
"""Bytes of an entry of a list of segments or prompts, in the process that lists them."""
PAIR = 4_000
"""A pair of the bench with its labels."""
STATE_FEATURES, OTHER_FEATURES = 44, 64
"""Numbers that a reward model keeps of a sampled frame: by each member of the state probe, and besides."""
SCORED_CLIPS = 64
"""Clips of the bench that a scorer gets at once."""
AHEAD = 3
"""Results of each worker that wait to be taken, and the one in work (executor.py)."""
SEGMENTS_OF_FILE = 2_048
"""Segments of a file of the token cache."""
DATA_SET = 100_000
"""Episodes that a data set is taken to have if its spec takes all of them."""


@dataclass(frozen=True, slots=True)
class StageMemory:
    """The peak memory of a stage in bytes, by what takes it."""

    stage: str
    field: str
    """The field to lower if it does not fit."""
    device: Mapping[str, float]
    """On one device; on a CPU in RAM, too, in each of `processes`."""
    host: Mapping[str, float]
    """In RAM."""
    processes: int = 1
    """Processes that compute on a CPU."""

    @property
    def device_gb(self) -> float:
        """GB on one device."""
        return sum(self.device.values()) / GIGA

    @property
    def host_gb(self) -> float:
        """GB of RAM beside it."""
        return (LIBRARIES + sum(self.host.values())) / GIGA


def stage_memory(experiment: Experiment, episodes: int | None = None, frames: int = 50) -> Iterator[StageMemory]:
    """The peak memory of each stage that computes with a model, in their order.

    Args:
        experiment: The experiment.
        episodes: Episodes of the data set; None for those that the sources name, or DATA_SET if one takes all.
        frames: Frames of an episode.
    """
    sizes, count = Sizes(experiment), _episodes(experiment) if episodes is None else episodes
    known = {"list of episodes": float(count * EPISODE)}
    yield from _video_model_memory(experiment, sizes, known, count, frames)
    for name in get_args(ProbeName):
        probe = getattr(experiment.probe, name)
        height, width = experiment.tokenizer.height, experiment.tokenizer.width
        ranks, parts = experiment.hardware.device.ranks, experiment.hardware.micro_batches.probe
        clips = probe.training.batch_size // probe.members * probe.frames / ranks
        yield StageMemory(
            f"probe.{name}",
            _memory_field(experiment, "probe", f"probe.{name}.training.batch_size", probe.training.batch_size),
            {
                "training": TRAINED * probe.parameters(_tasks(experiment)),
                "activations": number_bytes(experiment.hardware) * probe.floats(height, width) * clips / parts,
            },
            known | {"batches": 4 * clips * sizes.stored_frame},
        )
    yield _bench_memory(experiment, sizes, known, frames)
    for part in ("judge", "held_out", "student"):
        yield _scorer_memory(part, experiment, sizes, known)
    yield _alignment_memory(experiment, sizes, known, count, frames)
    yield _rollout_memory(experiment, sizes, known)


def _video_model_memory(
    experiment: Experiment, sizes: Sizes, known: Mapping[str, float], count: int, frames: int
) -> Iterator[StageMemory]:
    """The stages tokenizer, tokens and world_model."""
    hardware, tokenizer, model = experiment.hardware, experiment.tokenizer, experiment.world_model
    number, ranks = number_bytes(hardware), hardware.device.ranks
    parts = hardware.micro_batches
    clips = math.ceil(tokenizer.training.batch_size / ranks) * tokenizer.samples.frames
    # A gradient passes four networks: encoders and decoders of both branches.
    activations = 2 * decoder_activations(experiment) / FLOAT * number * clips / parts.tokenizer
    pixels = count * frames * sizes.stored_frame
    yield StageMemory(
        "tokenizer",
        _memory_field(experiment, "tokenizer", "tokenizer.training.batch_size", tokenizer.training.batch_size),
        {"training": float(TRAINED * tokenizer.parameters), "activations": activations}
        if tokenizer.training.steps
        else {"weights": sizes.tokenizer},
        # A list of all frames, and the frames themselves of a data set of up to 2**30 bytes.
        {**known, "list of frames": 136.0 * count * frames, "frames": pixels if pixels <= 2**30 else 0.0},
    )
    segment = model.segment
    if segment is not None:
        listed = count * max(0, math.ceil((frames - segment.frames) / segment.stride))
        codes = tokenizer.context_tokens + (1 + segment.frames) * tokenizer.dynamics_tokens
        yield StageMemory(
            "tokens",
            "hardware.executor.workers",
            {
                "weights": sizes.tokenizer,
                "encoded contexts": 2 * 16 * sizes.context,
                "frames": 16 * (1 + segment.frames) * sizes.frame,
                "encoding and decoding": sizes.chunk,
            },
            {**known, "list of segments": float(listed * SEGMENT), "a file": float(SEGMENTS_OF_FILE * codes * CODE),
             "an episode": frames * sizes.stored_frame},
            _workers(hardware),
        )  # fmt: skip
    rows = math.ceil(model.training.batch_size / ranks / parts.world_model)
    training: dict[str, float] = {}
    if segment is not None and model.training.steps:
        copies = 1 + 1 * (model.ema_decay > 0) / 4
        training = {
            "training": TRAINED * copies * sizes.parameters / hardware.device.weight_shards + sizes.gathered_weights,
            "activations": segment_activations(experiment, rows, segment.frames),
        }
    measured, horizon = model.measure.batch_size, model.measure.horizon
    measuring = {
        "weights": sizes.world_model + sizes.tokenizer,
        **sizes.rollouts(experiment.rollout.decodings[experiment.rollout.baseline], measured, horizon),
        "compared videos": 6 * measured * horizon * sizes.frame,
        "perceptual distance": measured * horizon * sizes.perceptual,
    }
    trains = sum(training.values()) > sum(measuring.values())
    field = _memory_field(experiment, "world_model", "world_model.training.batch_size", model.training.batch_size)
    # The token cache is mapped into memory, not read into it.
    yield StageMemory(
        "world_model",
        field if trains else "world_model.measure.batch_size",
        training if trains else measuring,
        {**known, "batches": 0.1e9, "weights before sharding": sizes.weights_before_sharding},
    )


def _bench_memory(experiment: Experiment, sizes: Sizes, known: Mapping[str, float], frames: int) -> StageMemory:
    """The stage bench: models of two steps, rollouts, and the chunks that wait to be written."""
    spec: BenchSpec = experiment.bench
    rows = spec.generated.batch_size
    kinds = [(spec.generated.decoding, spec.generated.frames), *((g.decoding, g.frames) for g in spec.groups)]
    rolled = max((sizes.rollouts(decoding, rows, count) for decoding, count in kinds), key=lambda p: sum(p.values()))
    longest = max(count for _, count in kinds)
    chunk = rows * len(spec.generated.models) * (1 + longest) * sizes.stored_frame
    pairs = spec.pairs + sum(groups.prompts * groups.size for groups in spec.groups)
    workers = _workers(experiment.hardware)
    return StageMemory(
        "bench",
        "bench.generated.batch_size",
        {"weights": 2 * sizes.world_model + sizes.tokenizer, **rolled, "labelled clips": 4 * chunk},
        {**known, "pairs": float(pairs * PAIR), "clips that wait": 2 * AHEAD * workers * chunk,
         "an episode": frames * sizes.stored_frame},
        workers,
    )  # fmt: skip


def _scorer_memory(part: str, experiment: Experiment, sizes: Sizes, known: Mapping[str, float]) -> StageMemory:
    """A judge or the student: what it keeps of each pair; the device's part is in `estimates.scorer_estimate`."""
    scorer, bench, hardware = getattr(experiment, part), experiment.bench, experiment.hardware
    pairs = bench.pairs + sum(groups.prompts * groups.size for groups in bench.groups)
    host = {**known, "pairs": float(pairs * PAIR)}
    if hardware.device.accelerator == "cpu":  # scored clips of further processes, stored and as numbers
        clips = SCORED_CLIPS * bench.max_frames * (sizes.frame + sizes.stored_frame)
        host["scoring processes"] = (_workers(hardware) - 1) * (LIBRARIES + clips)
    if isinstance(scorer, RewardModelSpec):
        probe = experiment.probe.held_out if part == "held_out" else experiment.probe.judge
        numbers = probe.members * STATE_FEATURES + OTHER_FEATURES
        host["observed pairs"] = float(2 * FLOAT * pairs * scorer.encoder.frames * numbers)
        batch = scorer.training.batch_size * scorer.set_size * bench.max_frames * sizes.stored_frame
        if scorer.encoder.appearance is not None:  # those that loader processes prepare, the next, the present one
            host["batches"] = (hardware.device.loader_workers + 2) * batch
    stage, size = "student" if part == "student" else "judge", getattr(scorer, "training", None)
    field = f"{part}.training.batch_size"
    return StageMemory(
        part, field if size is None else _memory_field(experiment, stage, field, size.batch_size), {}, host
    )


def _alignment_memory(
    experiment: Experiment, sizes: Sizes, known: Mapping[str, float], count: int, frames: int
) -> StageMemory:
    """The stage rl, on one of the devices: policy and reference, rollouts of its prompts, one micro-batch.

    Sampling and rewarding are bounded by `rl_sampling`, the update by `rl`; of their parts, the larger is in memory.
    """
    rl, hardware = experiment.rl, experiment.hardware
    rows = math.ceil(rl.training.batch_size * rl.group_size / hardware.device.ranks)
    sampled, updated = (
        math.ceil(rows / parts) for parts in (hardware.micro_batches.rl_sampling, hardware.micro_batches.rl)
    )
    update, copies = {"activations": policy_activations(experiment, updated)}, 2  # rollouts and true futures
    if isinstance(rl.optimizer, FirstOrderSpec):
        decoded = updated * rl.decoding.peak_frames(rl.horizon)
        update["decoder's activations"] = decoded * decoder_activations(experiment)
        copies += 2  # gradients by pixel, while they are put together
    sampling = sizes.rollouts(rl.decoding, sampled, rl.horizon)
    # Before training, one device compares gradients of whole batches: it has the videos of all devices, and the
    # gradients instead of the optimizer's states.
    compared = hardware.device.ranks if rl.measure.gradient_batches else 1
    weights, shards = TRAINED * sizes.parameters + 3 * sizes.world_model, hardware.device.weight_shards
    if shards > 1:  # reference and best policy are in shards; a whole copy of the policy is sampled
        weights = (TRAINED + 2 * FLOAT) * sizes.parameters / shards + sizes.gathered_weights + 2 * sizes.world_model
        if rl.measure.gradient_batches:  # which one device compares
            weights = max(weights, TRAINED * sizes.parameters + sizes.world_model)
    device = {
        "training": weights + sizes.tokenizer,
        # The allocator keeps what sampling has freed.
        **update,
        **sampling,
        "rewarded videos": copies * rows * compared * (1 + rl.horizon) * sizes.frame,
    }
    prompts = float(count * max(0, frames - rl.horizon) / rl.stride * SEGMENT)
    host = {**known, "list of prompts": prompts, "weights before sharding": sizes.weights_before_sharding}
    student = experiment.student.encoder
    if rl.distillation is not None:
        numbers = experiment.probe.judge.members * STATE_FEATURES + OTHER_FEATURES
        kept = rl.distillation.capacity + rl.distillation.bench_clips
        host["observed clips"] = float(FLOAT * kept * student.frames * numbers)
        if student.appearance is not None:
            host["replay buffer"] = rl.distillation.capacity * (1 + rl.horizon) * sizes.stored_frame
    larger = "rl" if sum(update.values()) > sum(sampling.values()) else "rl_sampling"
    field = f"hardware.micro_batches.{larger}" if min(sampled, updated) > 1 else "rl.training.batch_size"
    return StageMemory("rl", field, device, host)


def _rollout_memory(experiment: Experiment, sizes: Sizes, known: Mapping[str, float]) -> StageMemory:
    """The stage rollout: true frames and rollouts lie in files; first frames are on the device."""
    spec = experiment.rollout
    rows, horizon = spec.batch_size, spec.horizon
    largest = max(
        (sizes.rollouts(decoding, rows, horizon) for decoding in spec.used_decodings.values()),
        key=lambda p: sum(p.values()),
    )
    sampled = 2 * len(spec.temperatures)
    measured = rows * (1 + horizon) * (4 * sizes.frame + sizes.perceptual / spec.measured_every)
    batch = rows * (1 + horizon) * sizes.stored_frame
    return StageMemory(
        "rollout",
        "rollout.batch_size",
        {
            "weights": sampled * sizes.world_model + sizes.tokenizer,
            "first frames": max(spec.episodes, spec.scored_episodes) * sizes.frame,
            **largest,
            "measured videos": measured,
        },
        {**known, "rollouts that wait": 2 * AHEAD * _workers(experiment.hardware) * batch},
        _workers(experiment.hardware),
    )


def _memory_field(experiment: Experiment, stage: str, batch_size_field: str, batch_size: int) -> str:
    """The field that bounds the activations of a training: more micro-batches, or fewer samples."""
    hardware = experiment.hardware
    divided = hardware.device.ranks * getattr(hardware.micro_batches, stage)
    return f"hardware.micro_batches.{stage}" if divided < batch_size else batch_size_field


def _episodes(experiment: Experiment) -> int:
    """Episodes of all sources."""
    return sum(source.episodes or DATA_SET for source in experiment.sources.values())


def _tasks(experiment: Experiment) -> int:
    """Tasks with simulator states."""
    return sum(len(source.tasks) for source in experiment.sources.values() if isinstance(source, SimulatedRobotSpec))


def _workers(hardware: HardwareSpec) -> int:
    """Processes that encode and roll out: one for each GPU, or those of the executor, by default one for each core."""
    if hardware.device.accelerator != "cpu":
        return hardware.device.devices
    return hardware.executor.workers or os.cpu_count() or 1
