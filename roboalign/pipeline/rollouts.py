"""The rollout stage put together: models, evaluation episodes, distances, and every set of clips that is stored."""

from typing import get_args

import torch

from roboalign.evaluation.clips import OTHER_ACTIONS
from roboalign.hardware.spec import DeviceSpec
from roboalign.metrics.frechet import Frechet, between_halves
from roboalign.metrics.frechet_spec import FrechetSpec
from roboalign.metrics.perceptual_spec import PerceptualSpec
from roboalign.metrics.video import build_perceptual
from roboalign.pipeline.video_models import VideoModels
from roboalign.rollout.baselines import copy_context, copy_last, reconstruction
from roboalign.rollout.evaluation_episodes import EvaluationEpisodes, swap_actions
from roboalign.rollout.results import Results
from roboalign.rollout.spec import ModelName, RolloutSpec
from roboalign.rollout.suite import RolloutSuite, rollout_sets
from roboalign.run import Run
from roboalign.store import Corpus
from roboalign.tokenizer.interface import EncodedContext
from roboalign.world_model.decode_state import DecodeState
from roboalign.world_model.sampler import Sampler

Suite = RolloutSuite[EncodedContext, DecodeState]


def load_suite(spec: RolloutSpec, parts: VideoModels, corpus: Corpus, device_spec: DeviceSpec) -> Suite:
    """The world models and samplings of an experiment on its test episodes."""
    models = {name: parts.world_model(name) for name in get_args(ModelName)}
    samplers = {
        (name, sampling): Sampler(model, temperature=temperature, compiled=device_spec.compile)
        for name, model in models.items()
        for sampling, temperature in spec.temperatures.items()
    }
    validation = None
    if any(decoding.measures_drift for decoding in spec.used_decodings.values()):
        held = corpus.filter(split="validation")
        count = spec.drift.validation_episodes
        validation = EvaluationEpisodes.of(held, spec.horizon, count, spec.seed, parts.device)
    test = corpus.filter(split="test")
    episodes = EvaluationEpisodes.of(test, spec.horizon, spec.episodes, spec.seed, parts.device)
    return RolloutSuite(spec, parts.tokenizer(), samplers, episodes, validation)


def make_results(
    run: Run, spec: RolloutSpec, episodes: EvaluationEpisodes, perceptual: PerceptualSpec, frechet: FrechetSpec | None
) -> Results:
    """Results without sets yet: the distances, and how far two halves of the true clips are apart."""
    truth = episodes.frames
    distance = build_perceptual(perceptual).to(truth.device)
    set_distance, halves = None, {}
    if frechet is not None:
        measured = truth[:, :: spec.measured_every]
        set_distance = Frechet(frechet, distance)
        set_distance.reference(torch.split(measured, spec.batch_size))
        halves = between_halves(frechet, distance, measured, spec.batch_size)
    results = Results(
        run.output("artifacts/rollout"), episodes, distance, spec.measured_every, spec.batch_size, set_distance
    )
    results.metrics["ground_truth"] |= halves
    return results


def roll_out_all(run: Run, suite: Suite, results: Results, corpus: Corpus) -> None:
    """Roll out every set of the spec; store its clips and measure it.

    First the baselines that need no world model; then each model by each decoding, the scored ones on further
    episodes too; the samples of best-of-N; rollouts under another episode's actions; and the sweep of windows.
    """
    spec, episodes = suite.spec, suite.episodes
    for name, video in {
        "reconstruction": reconstruction(suite.tokenizer, episodes.frames),
        "copy_context": copy_context(episodes.frames),
        "copy_last": copy_last(episodes.frames),
    }.items():
        results.keep(name, [video])
        results.compare(name, video)
    count, device = max(spec.episodes, spec.scored_episodes), episodes.frames.device
    test = corpus.filter(split="test")
    more = EvaluationEpisodes.of(test, spec.horizon, count, spec.seed, device).without(episodes)
    for number, rollout_set in enumerate(sets := rollout_sets(spec), 1):
        results.add(rollout_set, suite.roll_out_set(rollout_set), suite.roll_out_more(rollout_set, more))
        name = rollout_set.name
        run.log(f"{number}/{len(sets)} {name}: PSNR {results.metrics[name]['psnr']['mean']:.2f} dB")
    if spec.best_of:
        clips = [rollout.frames for rollout in suite.samples(spec.best_of)]
        results.keep(f"best_of_{spec.best_of}", clips, "supervised", spec.baseline, "sampled")
    if len(swapped := swap_actions(episodes, corpus)):
        clips = [suite.other_actions(swapped).frames]
        results.keep(OTHER_ACTIONS, clips, "supervised", spec.scored_decoding, spec.first_sampling, swapped)
    for rollout_set, rollout in suite.swept_sets():
        if rollout_set.name not in results.metrics:
            results.measure(rollout_set.name, rollout, rollout_set.base)
    results.write_index()
