"""The rollout stage put together: models, evaluation episodes, distances, and every set of clips that is stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from roboalign.evaluation.clips import OTHER_ACTIONS
from roboalign.hardware.spec import DeviceSpec, SamplerSpec
from roboalign.metrics.frechet import Frechet, between_halves
from roboalign.metrics.frechet_spec import FrechetSpec
from roboalign.metrics.perceptual import build_perceptual
from roboalign.metrics.perceptual_spec import PerceptualSpec
from roboalign.pipeline.sharding import ModelExecutor
from roboalign.pipeline.video_models import TOKENIZER, WORLD_MODELS, VideoModels
from roboalign.rollout.baselines import copy_context, copy_last, reconstruction
from roboalign.rollout.evaluation_episodes import EvaluationEpisodes, swap_actions
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.results import Results
from roboalign.rollout.rollout import StoredRollout
from roboalign.rollout.spec import FixedDecodingSpec, ModelName, RolloutSpec, SamplingName
from roboalign.rollout.suite import RolloutBatch, RolloutSuite, roll_out_batch, rollout_sets
from roboalign.run import Run
from roboalign.store import Corpus
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.interface import EncodedContext
from roboalign.tokenizer.model import load_tokenizer
from roboalign.video import allocate_video, to_float, to_uint8
from roboalign.world_model.decode_state import DecodeState
from roboalign.world_model.model import load_world_model
from roboalign.world_model.sampler import Sampler

Suite = RolloutSuite[EncodedContext, DecodeState]


@dataclass(frozen=True)
class SamplerFiles:
    """The files of the models and the samplings, which each process loads itself."""

    tokenizer: Path
    world_models: tuple[tuple[ModelName, Path], ...]
    temperatures: tuple[tuple[SamplingName, float], ...]
    spec: SamplerSpec

    def load_tokenizer(self, device: torch.device) -> BatchInvariantTokenizer:
        """The tokenizer, loaded once in a process."""
        return _load_tokenizer(self.tokenizer, device)

    def load_sampler(self, model: ModelName, sampling: SamplingName, device: torch.device) -> Sampler:
        """A sampler, loaded once in a process."""
        return _load_sampler(self, model, sampling, device)


@cache
def _load_tokenizer(file: Path, device: torch.device) -> BatchInvariantTokenizer:
    return BatchInvariantTokenizer(load_tokenizer(file).to(device))


@cache
def _load_sampler(files: SamplerFiles, model: ModelName, sampling: SamplingName, device: torch.device) -> Sampler:
    world_model = load_world_model(dict(files.world_models)[model], str(device))
    return Sampler(world_model, temperature=dict(files.temperatures)[sampling], spec=files.spec)


@dataclass(frozen=True)
class _RolloutPiece:
    """A batch of rollouts that travels to a process: tensors as arrays, which are copied without shared memory."""

    files: SamplerFiles
    decoding: FixedDecodingSpec
    model: ModelName
    sampling: SamplingName
    prompt: tuple[NDArray[Any], ...]
    truth: NDArray[np.uint8] | None


def _roll_out_piece(piece: _RolloutPiece, device: torch.device) -> tuple[NDArray[np.uint8], NDArray[np.int64], Any]:
    """Frames, tokens and the other fields of a StoredRollout."""
    prompt = Prompt(*(torch.from_numpy(array).to(device) for array in piece.prompt))
    truth = None if piece.truth is None else torch.from_numpy(piece.truth)
    batch = RolloutBatch(piece.decoding, piece.model, piece.sampling, prompt, truth)
    tokenizer, sampler = (
        piece.files.load_tokenizer(device), piece.files.load_sampler(piece.model, piece.sampling, device)
    )  # fmt: skip
    made = roll_out_batch(tokenizer, sampler, batch)
    return made.frames.numpy(), made.tokens.numpy(), (made.peak_sequence, made.cache_bytes, made.seconds_per_frame)


def load_suite(
    spec: RolloutSpec, parts: VideoModels, corpus: Corpus, device_spec: DeviceSpec, executor: ModelExecutor,
    folder: Path,
) -> Suite:  # fmt: skip
    """The world models and samplings of an experiment on its test episodes, rolled out by an executor.

    Frames lie in files in `folder`.
    """
    models = tuple((name, parts.find(WORLD_MODELS[name])) for name in get_args(ModelName))
    files = SamplerFiles(
        parts.find(TOKENIZER), models, tuple(spec.temperatures.items()), device_spec.sampler
    )  # fmt: skip
    samplers = {
        (name, sampling): files.load_sampler(name, sampling, parts.device)
        for name, _ in models
        for sampling in spec.temperatures
    }
    validation = None
    if any(decoding.measures_drift for decoding in spec.used_decodings.values()):
        held = corpus.filter(split="validation")
        count = spec.drift.validation_episodes
        validation = EvaluationEpisodes.of(held, spec.horizon, count, spec.seed, parts.device, folder)
    test = corpus.filter(split="test")
    episodes = EvaluationEpisodes.of(test, spec.horizon, spec.episodes, spec.seed, parts.device, folder)

    def run_batches(batches: Sequence[RolloutBatch]) -> Iterator[StoredRollout]:
        pieces = [
            _RolloutPiece(
                files, batch.decoding, batch.model, batch.sampling,
                tuple(tensor.cpu().numpy() for tensor in (
                    batch.prompt.frames, batch.prompt.actions, batch.prompt.action_mask, batch.prompt.seeds
                )),
                None if batch.truth is None else batch.truth.numpy(),
            )
            for batch in batches
        ]  # fmt: skip
        for frames, tokens, rest in executor.map(_roll_out_piece, pieces):
            yield StoredRollout(torch.from_numpy(frames), torch.from_numpy(tokens), *rest)

    return RolloutSuite(spec, files.load_tokenizer(parts.device), samplers, episodes, validation, run_batches)


def make_results(
    run: Run, spec: RolloutSpec, episodes: EvaluationEpisodes, perceptual: PerceptualSpec, frechet: FrechetSpec | None
) -> Results:
    """Results without sets yet: the distances, and how far two halves of the true clips are apart."""
    device = episodes.device
    distance = build_perceptual(perceptual).to(device)
    set_distance, halves = None, {}
    if frechet is not None:
        measured = episodes.frames[:, :: spec.measured_every]
        set_distance = Frechet(frechet, distance)
        set_distance.reference(to_float(part.to(device)) for part in torch.split(measured, spec.batch_size))
        halves = between_halves(frechet, distance, measured, spec.batch_size, device)
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
    reconstructed = allocate_video(episodes.frames.shape, episodes.folder)
    for rows in suite.parts():
        reconstructed[rows] = to_uint8(reconstruction(suite.tokenizer, episodes.video(rows))).cpu()
    for name, video in {
        "reconstruction": reconstructed,
        "copy_context": copy_context(episodes.frames),
        "copy_last": copy_last(episodes.frames),
    }.items():
        results.keep(name, [video])
        results.compare(name, video)
    count = max(spec.episodes, spec.scored_episodes)
    test = corpus.filter(split="test")
    more = EvaluationEpisodes.of(test, spec.horizon, count, spec.seed, episodes.device, episodes.folder)
    more = more.without(episodes)
    first_samples = dict[str, torch.Tensor]()
    for number, rollout_set in enumerate(sets := rollout_sets(spec), 1):
        frames = results.add(rollout_set, suite.roll_out_set(rollout_set), suite.roll_out_more(rollout_set, more))
        if (rollout_set.decoding, rollout_set.sampling) == (spec.scored_decoding, "sampled"):
            first_samples[rollout_set.model] = frames
        name = rollout_set.name
        run.log(f"{number}/{len(sets)} {name}: PSNR {results.metrics[name]['psnr']['mean']:.2f} dB")
    scored = suite.over(episodes.join(more) if len(more) else episodes)
    for model in spec.best_of_models:
        clips = list(scored.samples(model, first_samples.get(model)))
        name = f"{model}.best_of_{spec.best_of}"
        results.keep(name, clips, model, spec.scored_decoding, "sampled", scored.episodes)
        run.log(f"{name}: {spec.best_of} samples of {len(scored.episodes)} episodes")
    if len(swapped := swap_actions(episodes, corpus)):
        clips = [suite.other_actions(swapped).frames]
        results.keep(OTHER_ACTIONS, clips, "supervised", spec.scored_decoding, spec.first_sampling, swapped)
    for rollout_set, rollout in suite.swept_sets():
        if rollout_set.name not in results.metrics:
            results.measure(rollout_set.name, rollout, rollout_set.base)
    results.write_index()
