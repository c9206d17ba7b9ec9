"""Build RobotWorldBench from recorded episodes and world-model rollouts: `python -m stages.bench`."""

import time
from typing import get_args

import torch

from roboalign.bench.card import write_card
from roboalign.bench.measure import degradation_effects, measure
from roboalign.bench.pairs import LABEL_FILES, Bench, write_pairs
from roboalign.bench.spec import BenchSpec
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.pipeline.bench import BenchModels, build_bench
from roboalign.pipeline.sharding import ModelExecutor
from roboalign.probe.spec import ProbeName
from roboalign.reward.rubric import limits_to_json
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus


def main(run: Run) -> None:
    """Run the stage."""
    started = time.monotonic()
    spec: BenchSpec = run.section("bench", BenchSpec)
    reward: RewardSpec = run.section("rubric", RewardSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    models = BenchModels(
        run.input("artifacts/tokenizer/model.safetensors"), run.input("artifacts/world_model"),
        tuple((name, run.input(f"artifacts/probe/{name}/model.safetensors")) for name in get_args(ProbeName)),
        torch.device(device_spec.accelerator), device_spec.sampler,
    )  # fmt: skip
    labellers = models.load_labellers(corpus, spec, reward)
    run.log(f"{spec.pairs} pairs and {sum(groups.prompts * groups.size for groups in spec.groups)} rollouts in groups, "
            f"from {len(corpus)} episodes of {', '.join(corpus.sources)}")  # fmt: skip
    with ModelExecutor.of(run) as executor:
        pairs = build_bench(labellers, models, run.output("artifacts/bench/generated"), executor, run.log)
    for name, labeller in labellers.items():
        write_pairs(run.output(f"artifacts/bench/{LABEL_FILES[name]}"), pairs[name], reward.names)
        limits = {source: calibration.limits for source, calibration in labeller.trusted_calibrations.items()}
        write_json(run.output(f"artifacts/bench/probed_limits/{name}.json"), limits_to_json(limits))
    labeller = labellers["judge"]
    write_json(run.output("artifacts/bench/limits.json"), limits_to_json(dict(labeller.limits)))
    effects = degradation_effects(labeller)
    metrics = measure(labeller, pairs["judge"], effects)
    write_json(run.output("metrics/bench.json"), metrics)
    bench = Bench.open(run.output("artifacts/bench"), corpus, reward.names)
    write_card(run.output("artifacts/bench/card"), labeller, bench, effects)
    write_json(run.root / "timings/bench.json", {"seconds": time.monotonic() - started})
    run.log(f"{metrics['by_origin']}; mean total by origin {metrics['mean_total_by_origin']}")


if __name__ == "__main__":
    execute("bench", main)
