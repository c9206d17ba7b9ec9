"""RobotWorldBench put together: the labellers and the world models of an experiment, by any number of workers."""

import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import torch

from roboalign.bench.annotations import read_annotations
from roboalign.bench.build import GeneratedClip, GenerateFn, build, generate_chunk
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import Pair
from roboalign.bench.spec import BenchSpec
from roboalign.hardware.spec import SamplerSpec
from roboalign.pipeline.sharding import MIN_CLIPS, ModelExecutor, one_thread
from roboalign.probe.model import Probe, load_probe
from roboalign.probe.spec import ProbeName
from roboalign.reward.spec import RewardSpec
from roboalign.rollout.clip_generator import make_clip_generator, make_reconstructor
from roboalign.rollout.spec import PolicyDecodingSpec
from roboalign.store import Corpus
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.model import load_tokenizer
from roboalign.world_model.model import load_world_model
from roboalign.world_model.sampler import Sampler

CHECKPOINTS = {"early": "early.safetensors", "final": "model.safetensors"}
"""The world model's checkpoints by the names that BenchSpec uses."""


@dataclass(frozen=True)
class BenchModels:
    """The files of the models that generate and label clips; each process loads them itself."""

    tokenizer: Path
    world_models: Path
    """The folder of CHECKPOINTS."""
    probes: tuple[tuple[ProbeName, Path], ...]
    device: torch.device
    sampler: SamplerSpec

    def load_generators(self, spec: BenchSpec) -> dict[str, GenerateFn]:
        """A clip generator for each name that `Pair.model` can have."""
        tokenizer = self._load_tokenizer()
        models = {
            name: load_world_model(self.world_models / file).to(self.device) for name, file in CHECKPOINTS.items()
        }
        result: dict[str, GenerateFn] = {}

        def add(key: str, model: str, decoding: PolicyDecodingSpec, temperature: float) -> None:
            sampler = Sampler(models[model], temperature=temperature, spec=self.sampler)
            result[key] = make_clip_generator(tokenizer, sampler, decoding, self.device)

        for model in spec.generated.models:
            add(model, model, spec.generated.decoding, spec.generated.temperature)
        for groups in spec.groups:
            for model in groups.models:
                for sampling, temperature in (("greedy", 0.0), ("sampled", spec.generated.temperature)):
                    add(f"{model}.{groups.decoding.kind}.{sampling}", model, groups.decoding, temperature)
        return result

    def load_labellers(self, corpus: Corpus, spec: BenchSpec, reward: RewardSpec) -> dict[ProbeName, PairLabeller]:
        """The labeller of a corpus by each state probe."""
        reconstruct = make_reconstructor(self._load_tokenizer(), self.device)
        annotations = read_annotations(spec.annotations, reward)
        labeller = PairLabeller.of(corpus, spec, reward, reconstruct=reconstruct, annotations=annotations)
        return self.add_probes({name: labeller for name, _ in self.probes})

    def add_probes(self, labellers: Mapping[ProbeName, PairLabeller]) -> dict[ProbeName, PairLabeller]:
        """The labellers with their probes; None for a probe that covers no task."""
        result: dict[ProbeName, PairLabeller] = {}
        for name, labeller in labellers.items():
            probe = _load_probe(dict(self.probes)[name], self.device)
            states = probe.states if probe.tasks else None
            result[name] = replace(labeller, probe=states, probed_tasks=frozenset(probe.tasks))
        return result

    def _load_tokenizer(self) -> BatchInvariantTokenizer:
        return BatchInvariantTokenizer(load_tokenizer(self.tokenizer).to(self.device))


def build_bench(
    labellers: Mapping[ProbeName, PairLabeller],
    models: BenchModels,
    folder: Path,
    executor: ModelExecutor,
    log: Callable[[str], None],
) -> dict[ProbeName, list[Pair]]:
    """All pairs with the labels by each state probe; the generated clips are written to the episode store `folder`.

    Args:
        labellers: The labeller by each state probe.
        models: The models that generate clips.
        folder: The episode store.
        executor: Generates the clips, if there are at least MIN_CLIPS.
        log: Is called with lines of progress.

    Raises AnnotationError for annotations of clips that are not in the bench.
    """
    labeller, started = labellers["judge"], time.monotonic()
    generators = _load_generators(models, labeller.spec.model_dump_json())

    def progress(done: int, total: int) -> None:
        left = (time.monotonic() - started) / done * (total - done)
        log(f"{done} of {total} generated clips, about {left:.0f} s left")

    def generate_chunks(chunks: Sequence[Sequence[Pair]]) -> Iterable[Sequence[GeneratedClip]]:
        if sum(map(len, chunks)) < MIN_CLIPS:
            return _generate_here(labellers, generators, chunks)
        sent = {name: labeller.without_models() for name, labeller in labellers.items()}
        pickled = pickle.dumps(sent)
        return executor.map(_generate_chunk, [_ClipPiece(pickled, models, chunk) for chunk in chunks])

    pairs = build(labellers, generators, folder, labeller.corpus.stores[0].fps, progress, generate_chunks)
    read_annotations(labeller.spec.annotations, labeller.reward, {pair.id for pair in pairs["judge"]})
    return pairs


def _generate_here(
    labellers: Mapping[ProbeName, PairLabeller], generators: Mapping[str, GenerateFn], chunks: Sequence[Sequence[Pair]]
) -> Iterator[Sequence[GeneratedClip]]:
    """`generate_chunk` of each chunk in this process, with the bits of a worker."""
    for chunk in chunks:
        with one_thread():
            clips = generate_chunk(labellers, generators, chunk)
        yield clips


@dataclass(frozen=True)
class _ClipPiece:
    """A chunk of recipes, with what a worker generates and labels it by."""

    labellers: bytes
    """Labellers by state probe, without their models, pickled once for all chunks: they know every episode."""
    models: BenchModels
    chunk: Sequence[Pair]


def _generate_chunk(piece: _ClipPiece, device: torch.device) -> list[GeneratedClip]:
    """`generate_chunk` with the models of this process on a device."""
    labellers = _load_labellers(piece.labellers, replace(piece.models, device=device))
    generators = _load_generators(replace(piece.models, device=device), labellers["judge"].spec.model_dump_json())
    return generate_chunk(labellers, generators, piece.chunk)


@lru_cache(maxsize=1)
def _load_labellers(pickled: bytes, models: BenchModels) -> dict[ProbeName, PairLabeller]:
    """The labellers with their probes, loaded once in a process."""
    return models.add_probes(pickle.loads(pickled))


@cache
def _load_generators(models: BenchModels, spec: str) -> dict[str, GenerateFn]:
    """The generators of the `spec`, a BenchSpec in JSON; loaded once in a process."""
    return models.load_generators(BenchSpec.model_validate_json(spec))


@cache
def _load_probe(file: Path, device: torch.device) -> Probe:
    """The state probe in a file, loaded once in a process."""
    return load_probe(file).to(device)
