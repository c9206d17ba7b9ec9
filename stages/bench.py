"""Build RobotWorldBench from recorded episodes and world-model rollouts: `python -m stages.bench`."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from roboalign.bench.annotations import read_annotations
from roboalign.bench.build import Builder, all_limits, build, recorded_states
from roboalign.bench.card import write_card
from roboalign.bench.generate import Chunks, Generate, Made, make
from roboalign.bench.measure import degradation_effects, measure
from roboalign.bench.pairs import Bench, Pair, write_pairs
from roboalign.bench.probed import Look
from roboalign.bench.spec import BenchSpec
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.probe.model import load_probe
from roboalign.reward.rubric import limits_to_json
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus, EpisodeStore
from roboalign.tokenizer.model import DualBranchTokenizer, load_tokenizer
from roboalign.types import Float32, UInt8
from roboalign.world_model.model import WorldModel, load_world_model
from roboalign.world_model.sampler import generate

FILES = {"early": "early.safetensors", "final": "model.safetensors"}
"""The world model's checkpoints by the names that BenchSpec uses."""

MANY = 256
"""Clips from which on several processes make them, each with one thread: twice the speed of threads on two cores."""


def roller(tokenizer: DualBranchTokenizer, model: WorldModel, temperature: float, device: torch.device) -> Generate:
    """A tokenizer and a world model as one function from first frames and actions to the predicted frames."""

    @torch.no_grad()
    def roll(first: UInt8, actions: Float32, masks: NDArray[np.bool_], seeds: NDArray[np.int64]) -> UInt8:
        context = tokenizer.encode_context(torch.from_numpy(first).to(device).permute(0, 3, 1, 2).float() / 255)
        commands, mask, streams = (torch.from_numpy(array).to(device) for array in (actions, masks, seeds))
        # The window keeps the sequence within what the model was trained on, however long the rollout.
        tokens = generate(
            model, context.tokens, commands, mask, streams, temperature=temperature, window=model.spec.segment.frames
        )
        frames = tokenizer.decode(context, tokens).clamp(0, 1)
        return np.ascontiguousarray((frames * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy())

    return roll


def reconstructing(tokenizer: DualBranchTokenizer, device: torch.device) -> Callable[[UInt8], UInt8]:
    """A clip (T, H, W, 3) as the tokenizer gives it back; the first frame, its context, as it was."""

    @torch.no_grad()
    def reconstruct(frames: UInt8) -> UInt8:
        video = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 255
        context = tokenizer.encode_context(video[:1])
        made = tokenizer.decode(context, tokenizer.encode(context, video[None, 1:]))[0].clamp(0, 1)
        future = np.ascontiguousarray((made * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate([frames[:1], future])

    return reconstruct


@dataclass(frozen=True)
class Workshop:
    """What makes generated clips: files of models, and where they run."""

    tokenizer: Path
    models: dict[str, Path]
    probe: Path
    temperature: float
    device: torch.device

    def generators(self) -> dict[str, Generate]:
        """The world models, loaded."""
        tokenizer = load_tokenizer(self.tokenizer).to(self.device)
        return {
            name: roller(tokenizer, load_world_model(file).to(self.device), self.temperature, self.device)
            for name, file in self.models.items()
        }

    def look(self) -> Look | None:
        """The probe, loaded; None where it covers no source, so that distances label what is generated."""
        probe = load_probe(self.probe).to(self.device)
        return probe.states if probe.tasks else None


_here: dict[str, tuple[Builder, dict[str, Generate]]] = {}
"""What a process that makes clips has loaded."""


def start(builder: Builder, workshop: Workshop) -> None:
    """Load the models into this process, which has one thread: several processes share the cores."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    _here["work"] = replace(builder, probe=workshop.look()), workshop.generators()


def made(recipes: Sequence[Pair]) -> list[Made]:
    """Make a chunk of clips in a process that `start` has prepared."""
    return make(*_here["work"], recipes)


@contextmanager
def processes(builder: Builder, workshop: Workshop, count: int) -> Iterator[Callable[[int], Chunks | None]]:
    """What makes many clips in `count` processes, on a CPU; few, or on another device, are made in this one."""
    with ExitStack() as stack:

        def chunks(clips: int) -> Chunks | None:
            if clips < MANY or workshop.device.type != "cpu":
                return None
            plain = replace(builder, probe=None, reconstruct=None, measured_looks=builder.looks)
            pool = ProcessPoolExecutor(
                count, mp_context=get_context("spawn"), initializer=start, initargs=(plain, workshop)
            )
            stack.enter_context(pool)
            return lambda parts: pool.map(made, parts)

        yield chunks


def main(run: Run) -> None:
    """Run the stage."""
    spec: BenchSpec = run.section("bench", BenchSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    hardware: DeviceSpec = run.section("hardware.device", DeviceSpec)
    device = torch.device(hardware.accelerator)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    models = {str(name): run.input(f"artifacts/world_model/{FILES[name]}") for name in spec.generated.models}
    workshop = Workshop(
        run.input("artifacts/tokenizer/model.safetensors"), models, run.input("artifacts/probe/model.safetensors"),
        spec.generated.temperature, device,
    )  # fmt: skip
    states = recorded_states(corpus)
    annotations = read_annotations(spec.annotations, reward)
    limits = all_limits(corpus.infos, states, reward)
    again = reconstructing(load_tokenizer(workshop.tokenizer).to(device), device)
    builder = Builder(corpus, spec, reward, states, limits, workshop.look(), annotations, again)
    run.say(f"{spec.pairs} pairs from {len(corpus)} episodes of {', '.join(corpus.sources)}")
    began = time.monotonic()
    fps = next((store.fps for store in corpus.stores if isinstance(store, EpisodeStore)), 10.0)

    def progress(done: int, total: int) -> None:
        passed = time.monotonic() - began
        run.say(f"{done} of {total} generated clips, about {passed / done * (total - done):.0f} s left")

    with processes(builder, workshop, hardware.threads) as chunks:
        folder = run.output("artifacts/bench") / "generated"
        pairs = build(builder, workshop.generators(), folder, fps, progress, chunks)
    read_annotations(spec.annotations, reward, {pair.id for pair in pairs})  # refuses those of clips that are not here
    write_pairs(run.output("artifacts/bench/pairs.parquet"), pairs, reward.names)
    write_json(run.output("artifacts/bench/limits.json"), limits_to_json(dict(builder.limits)))
    seen = {source: own.limits for source, own in builder.sights.items()}
    write_json(run.output("artifacts/bench/probed_limits.json"), limits_to_json(seen))
    effects = degradation_effects(builder)
    metrics = measure(builder, pairs, effects)
    write_json(run.output("metrics/bench.json"), metrics)
    bench = Bench.open(run.output("artifacts/bench"), corpus, reward.names)
    write_card(run.output("artifacts/bench/card"), builder, bench, effects)
    write_json(run.root / "timings/bench.json", {"seconds": time.monotonic() - began})
    run.say(f"{metrics['by_origin']}; mean total by origin {metrics['mean_total_by_origin']}")


if __name__ == "__main__":
    execute("bench", main)
