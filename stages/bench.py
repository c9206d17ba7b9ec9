"""Build RobotWorldBench from recorded episodes and world-model rollouts: `python -m stages.bench`."""

import time
from typing import get_args

import torch

from roboalign.bench.annotations import read_annotations
from roboalign.bench.build import build
from roboalign.bench.card import write_card
from roboalign.bench.measure import degradation_effects, measure
from roboalign.bench.pairs import LABEL_FILES, Bench, write_pairs
from roboalign.bench.spec import BenchSpec
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.pipeline.bench_workers import ModelFiles, generate_in_processes, make_builder
from roboalign.probe.spec import ProbeName
from roboalign.reward.rubric import limits_to_json
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus, EpisodeStore


def main(run: Run) -> None:
    """Run the stage."""
    spec: BenchSpec = run.section("bench", BenchSpec)
    reward: RewardSpec = run.section("rubric", RewardSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    files = ModelFiles(
        run.input("artifacts/tokenizer/model.safetensors"), run.input("artifacts/world_model"),
        {name: run.input(f"artifacts/probe/{name}/model.safetensors") for name in get_args(ProbeName)},
        torch.device(device_spec.accelerator),
    )  # fmt: skip
    builder, others = make_builder(corpus, spec, reward, files)
    rollouts = sum(groups.prompts * groups.size for groups in spec.groups)
    run.say(f"{spec.pairs} pairs and {rollouts} rollouts in groups, from {len(corpus)} "
            f"episodes of {', '.join(corpus.sources)}")  # fmt: skip
    started = time.monotonic()
    fps = next((store.fps for store in corpus.stores if isinstance(store, EpisodeStore)), 10.0)

    def progress(done: int, total: int) -> None:
        passed = time.monotonic() - started
        run.say(f"{done} of {total} generated clips, about {passed / done * (total - done):.0f} s left")

    with generate_in_processes(builder, others, files, device_spec.threads) as chunks:
        folder = run.output("artifacts/bench") / "generated"
        pairs = build(builder, files.generators(spec), folder, fps, progress, chunks, others)
    # Refuses annotations of clips that the bench does not hold.
    read_annotations(spec.annotations, reward, {pair.id for pair in pairs["judge"]})
    for name, labelled in pairs.items():
        write_pairs(run.output(f"artifacts/bench/{LABEL_FILES[name]}"), labelled, reward.names)
    write_json(run.output("artifacts/bench/limits.json"), limits_to_json(dict(builder.limits)))
    for name, labels in {"judge": builder, **others}.items():
        limits = {source: sight.limits for source, sight in labels.sights.items()}
        write_json(run.output(f"artifacts/bench/probed_limits/{name}.json"), limits_to_json(limits))
    effects = degradation_effects(builder)
    metrics = measure(builder, pairs["judge"], effects)
    write_json(run.output("metrics/bench.json"), metrics)
    write_card(
        run.output("artifacts/bench/card"),
        builder,
        Bench.open(run.output("artifacts/bench"), corpus, reward.names),
        effects,
    )
    write_json(run.root / "timings/bench.json", {"seconds": time.monotonic() - started})
    run.say(f"{metrics['by_origin']}; mean total by origin {metrics['mean_total_by_origin']}")


if __name__ == "__main__":
    execute("bench", main)
