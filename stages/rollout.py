"""Roll out every model with every decoding, and measure the drift: `python -m stages.rollout`."""

from typing import get_args

import torch

from roboalign.evaluation.clips import OTHER_ACTIONS
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json, write_tsv
from roboalign.metrics.frechet import Frechet, between_halves
from roboalign.metrics.frechet_spec import FrechetSpec
from roboalign.metrics.perceptual_spec import PerceptualSpec
from roboalign.metrics.video import build_perceptual
from roboalign.rollout.baselines import copy_context, copy_last, reconstruction
from roboalign.rollout.evaluation_episodes import EvaluationEpisodes, swap_actions
from roboalign.rollout.results import Results
from roboalign.rollout.spec import RolloutSpec, SamplingName
from roboalign.rollout.suite import ModelName, RolloutSuite, rollout_sets
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.model import load_tokenizer
from roboalign.world_model.model import load_world_model
from roboalign.world_model.sampler import Sampler


def main(run: Run) -> None:
    """Run the stage."""
    spec: RolloutSpec = run.section("rollout", RolloutSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    where = torch.device(device.accelerator)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    episodes = EvaluationEpisodes.of(corpus.where(split="test"), spec.horizon, spec.episodes, spec.seed, where)
    count = max(spec.episodes, spec.scored_episodes)
    more = EvaluationEpisodes.of(corpus.where(split="test"), spec.horizon, count, spec.seed, where).without(episodes)
    tokenizer = BatchInvariantTokenizer(load_tokenizer(run.input("artifacts/tokenizer/model.safetensors")).to(where))
    files = {"supervised": "artifacts/world_model/model.safetensors", "aligned": "artifacts/rl/model.safetensors"}
    models = {name: load_world_model(run.input(files[name]), str(where)) for name in get_args(ModelName)}
    temperatures = {"greedy": 0.0, "sampled": spec.temperature}
    samplers: dict[tuple[ModelName, SamplingName], Sampler] = {
        (name, sampling): Sampler(models[name], temperature=temperatures[sampling], compiled=device.compile)
        for name in get_args(ModelName)
        for sampling in get_args(SamplingName)
    }
    validation = None
    if any(decoding.measures_drift for decoding in spec.used.values()):
        kept = corpus.where(split="validation")
        validation = EvaluationEpisodes.of(kept, spec.horizon, spec.drift.validation_episodes, spec.seed, where)
    suite = RolloutSuite(spec, tokenizer, samplers, episodes, validation)
    distance = build_perceptual(run.section("evaluation.perceptual", PerceptualSpec)).to(where)
    truth = episodes.frames
    names = {"perceptual_name": distance.name}
    frechet: FrechetSpec | None = run.section("evaluation.frechet", FrechetSpec | None)
    whole, halves = None, {}
    if frechet is not None:
        measured = truth[:, :: spec.measured_every]
        whole = Frechet(frechet, distance)
        whole.reference(torch.split(measured, spec.batch_size))
        halves = between_halves(frechet, distance, measured, spec.batch_size)
        names["frechet_name"] = whole.name
    results = Results(run.output("artifacts/rollout"), episodes, distance, spec.measured_every, spec.batch_size, whole)
    results.metrics["ground_truth"] |= halves
    baselines = {
        "reconstruction": reconstruction(tokenizer, truth),
        "copy_context": copy_context(truth),
        "copy_last": copy_last(truth),
    }
    for name, video in baselines.items():
        results.keep(name, [video])
        results.compare(name, video)
    for number, one in enumerate(sets := rollout_sets(spec), 1):
        results.add(one, suite.roll_out_set(one), suite.roll_out_more(one, more))
        run.say(f"{number}/{len(sets)} {one.name}: PSNR {results.metrics[one.name]['psnr']['mean']:.2f} dB")
    if spec.best_of:
        clips = [made.frames for made in suite.samples(spec.best_of)]
        results.keep(f"best_of_{spec.best_of}", clips, "supervised", spec.baseline, "sampled")
    first, *others = spec.sampling
    if len(swapped := swap_actions(episodes, corpus)):
        made = suite.other_actions(swapped)
        results.keep(OTHER_ACTIONS, [made.frames], "supervised", spec.scored_decoding, first, swapped)
    for one, made in suite.swept_sets():
        if one.name not in results.metrics:
            results.measure(one.name, made, one.base)
    figures, curves = suite.drift(first)
    figures |= {sampling: suite.drift(sampling)[0] for sampling in others}
    results.write_index()
    write_json(
        run.output("metrics/rollout.json"),
        results.metrics | {"episodes": len(episodes), "horizon": spec.horizon} | names,
    )
    write_tsv(run.output("plots/rollout.tsv"), results.curves)
    write_json(run.output("metrics/drift.json"), figures)
    write_tsv(run.output("plots/drift.tsv"), curves)
    write_json(run.root / "timings/rollout.json", results.timings)


if __name__ == "__main__":
    execute("rollout", main)
