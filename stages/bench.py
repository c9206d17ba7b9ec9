"""Build RobotWorldBench from recorded episodes and world-model rollouts: `python -m stages.bench`."""

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from roboalign.bench.annotations import read_annotations
from roboalign.bench.build import Builder, all_limits, build, recorded_states
from roboalign.bench.card import write_card
from roboalign.bench.generate import Generate
from roboalign.bench.measure import degradation_effects, measure
from roboalign.bench.pairs import Bench, write_pairs
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


def main(run: Run) -> None:
    """Run the stage."""
    spec: BenchSpec = run.section("bench", BenchSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device = torch.device(run.section("hardware.device", DeviceSpec).accelerator)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    tokenizer = load_tokenizer(run.input("artifacts/tokenizer/model.safetensors")).to(device)
    models: dict[str, Generate] = {
        name: roller(tokenizer, load_world_model(run.input(f"artifacts/world_model/{FILES[name]}")).to(device),
                     spec.generated.temperature, device)
        for name in spec.generated.models
    }  # fmt: skip
    states = recorded_states(corpus)
    probe = load_probe(run.input("artifacts/probe/model.safetensors")).to(device)
    look = probe.states if probe.tasks else None  # without a source that has states, distances label what is generated
    annotations = read_annotations(spec.annotations, reward)
    limits = all_limits(corpus.infos, states, reward)
    again = reconstructing(tokenizer, device)
    builder = Builder(corpus, spec, reward, states, limits, look, annotations, again)
    run.say(f"{spec.pairs} pairs from {len(corpus)} episodes of {', '.join(corpus.sources)}")
    began = time.monotonic()
    fps = next((store.fps for store in corpus.stores if isinstance(store, EpisodeStore)), 10.0)

    def progress(done: int, total: int) -> None:
        passed = time.monotonic() - began
        run.say(f"{done} of {total} generated clips, about {passed / done * (total - done):.0f} s left")

    pairs = build(builder, models, run.output("artifacts/bench") / "generated", fps, progress)
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
