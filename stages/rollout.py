"""Roll out every model with every decoding, and measure the drift: `python -m stages.rollout`."""

from typing import get_args

import torch

from roboalign.evaluation.clips import OTHER_ACTIONS
from roboalign.evaluation.frechet import Frechet, between_halves
from roboalign.evaluation.frechet_spec import FrechetSpec
from roboalign.evaluation.perceptual_spec import PerceptualSpec
from roboalign.evaluation.video import build_perceptual
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json, write_tsv
from roboalign.rollout.baselines import copy_context, copy_last, reconstruction
from roboalign.rollout.results import Results
from roboalign.rollout.scenes import Scenes, under_other_actions
from roboalign.rollout.spec import RolloutSpec, SamplingName
from roboalign.rollout.study import ModelName, Study, clip_sets
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
    scenes = Scenes.of(corpus.where(split="test"), spec.horizon, spec.episodes, spec.seed, where)
    count = max(spec.episodes, spec.scored_episodes)
    more = Scenes.of(corpus.where(split="test"), spec.horizon, count, spec.seed, where).without(scenes)
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
        validation = Scenes.of(kept, spec.horizon, spec.drift.validation_episodes, spec.seed, where)
    study = Study(spec, tokenizer, samplers, scenes, validation)
    distance = build_perceptual(run.section("evaluation.perceptual", PerceptualSpec)).to(where)
    truth = scenes.frames
    names = {"perceptual_name": distance.name}
    frechet: FrechetSpec | None = run.section("evaluation.frechet", FrechetSpec | None)
    whole, halves = None, {}
    if frechet is not None:
        measured = truth[:, :: spec.measured_every]
        whole = Frechet(frechet, distance)
        whole.reference(torch.split(measured, spec.batch_size))
        halves = between_halves(frechet, distance, measured, spec.batch_size)
        names["frechet_name"] = whole.name
    results = Results(run.output("artifacts/rollout"), scenes, distance, spec.measured_every, spec.batch_size, whole)
    results.metrics["ground_truth"] |= halves
    baselines = {
        "reconstruction": reconstruction(tokenizer, truth),
        "copy_context": copy_context(truth),
        "copy_last": copy_last(truth),
    }
    for name, video in baselines.items():
        results.keep(name, [video])
        results.compare(name, video)
    for number, one in enumerate(sets := clip_sets(spec), 1):
        results.add(one, study.make(one), study.make_more(one, more))
        run.say(f"{number}/{len(sets)} {one.name}: PSNR {results.metrics[one.name]['psnr']['mean']:.2f} dB")
    if spec.best_of:
        clips = [made.frames for made in study.samples(spec.best_of)]
        results.keep(f"best_of_{spec.best_of}", clips, "supervised", spec.baseline, "sampled")
    first, *others = spec.sampling
    if len(swapped := under_other_actions(scenes, corpus)):
        made = study.other_actions(swapped)
        results.keep(OTHER_ACTIONS, [made.frames], "supervised", spec.scored_decoding, first, swapped)
    for one, made in study.swept_sets():
        if one.name not in results.metrics:
            results.measure(one.name, made, one.base)
    figures, curves = study.drift(first)
    figures |= {sampling: study.drift(sampling)[0] for sampling in others}
    results.write_index()
    write_json(
        run.output("metrics/rollout.json"),
        results.metrics | {"episodes": len(scenes), "horizon": spec.horizon} | names,
    )
    write_tsv(run.output("plots/rollout.tsv"), results.curves)
    write_json(run.output("metrics/drift.json"), figures)
    write_tsv(run.output("plots/drift.tsv"), curves)
    write_json(run.root / "timings/rollout.json", results.timings)


if __name__ == "__main__":
    execute("rollout", main)
