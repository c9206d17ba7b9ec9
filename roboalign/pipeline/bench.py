"""RobotWorldBench put together: the labellers and the world models of an experiment, in one process or several."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from roboalign.bench.annotations import read_annotations
from roboalign.bench.build import GeneratedClip, GenerateFn, build, generate_chunk
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import Pair
from roboalign.bench.spec import BenchSpec
from roboalign.probe.model import load_probe
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

MIN_CLIPS = 256
"""Clips from which several processes generate them, with one thread each. On two cores that is twice as fast as one
process with two threads, but each process has to load the models."""


@dataclass(frozen=True)
class BenchModels:
    """The files of the models that generate and label clips; each process loads them itself."""

    tokenizer: Path
    world_models: Path
    """The folder of CHECKPOINTS."""
    probes: Mapping[ProbeName, Path]
    device: torch.device

    def load_generators(self, spec: BenchSpec) -> dict[str, GenerateFn]:
        """A clip generator for each name that `Pair.model` can have."""
        tokenizer = self._load_tokenizer()
        models = {
            name: load_world_model(self.world_models / file).to(self.device) for name, file in CHECKPOINTS.items()
        }
        result: dict[str, GenerateFn] = {}

        def add(key: str, model: str, decoding: PolicyDecodingSpec, temperature: float) -> None:
            sampler = Sampler(models[model], temperature=temperature)
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
        return self.add_probes(dict.fromkeys(self.probes, labeller))

    def add_probes(self, labellers: Mapping[ProbeName, PairLabeller]) -> dict[ProbeName, PairLabeller]:
        """The labellers with their probes; None for a probe that covers no task."""
        result: dict[ProbeName, PairLabeller] = {}
        for name, labeller in labellers.items():
            probe = load_probe(self.probes[name]).to(self.device)
            states = probe.states if probe.tasks else None
            result[name] = replace(labeller, probe=states, probed_tasks=frozenset(probe.tasks))
        return result

    def _load_tokenizer(self) -> BatchInvariantTokenizer:
        return BatchInvariantTokenizer(load_tokenizer(self.tokenizer).to(self.device))


def build_bench(
    labellers: Mapping[ProbeName, PairLabeller],
    models: BenchModels,
    folder: Path,
    processes: int,
    log: Callable[[str], None],
) -> dict[ProbeName, list[Pair]]:
    """All pairs with the labels by each state probe; the generated clips are written to the episode store `folder`.

    Args:
        labellers: The labeller by each state probe.
        models: The models that generate clips.
        folder: The episode store.
        processes: Number of processes for at least MIN_CLIPS clips on a CPU.
        log: Is called with lines of progress.

    Raises AnnotationError for annotations of clips that are not in the bench.
    """
    labeller, started = labellers["judge"], time.monotonic()
    generators = models.load_generators(labeller.spec)

    def progress(done: int, total: int) -> None:
        left = (time.monotonic() - started) / done * (total - done)
        log(f"{done} of {total} generated clips, about {left:.0f} s left")

    def generate_chunks(chunks: Sequence[Sequence[Pair]]) -> Iterable[Sequence[GeneratedClip]]:
        if sum(map(len, chunks)) < MIN_CLIPS or models.device.type != "cpu":
            return (generate_chunk(labellers, generators, chunk) for chunk in chunks)
        return _generate_in_processes(labellers, models, processes, chunks)

    pairs = build(labellers, generators, folder, labeller.corpus.stores[0].fps, progress, generate_chunks)
    read_annotations(labeller.spec.annotations, labeller.reward, {pair.id for pair in pairs["judge"]})
    return pairs


def _generate_in_processes(
    labellers: Mapping[ProbeName, PairLabeller], models: BenchModels, processes: int, chunks: Sequence[Sequence[Pair]]
) -> Iterator[Sequence[GeneratedClip]]:
    """`generate_chunk` of each chunk, in order, in processes with one thread each."""
    arguments = {name: labeller.without_models() for name, labeller in labellers.items()}, models
    with ProcessPoolExecutor(processes, get_context("spawn"), _load_models, arguments) as pool:
        yield from pool.map(_generate_chunk, chunks)


_loaded: dict[str, tuple[dict[ProbeName, PairLabeller], dict[str, GenerateFn]]] = {}
"""The labellers and generators of a process that `_load_models` has prepared."""


def _load_models(labellers: Mapping[ProbeName, PairLabeller], models: BenchModels) -> None:
    """Load the models into this process."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    _loaded["models"] = models.add_probes(labellers), models.load_generators(labellers["judge"].spec)


def _generate_chunk(chunk: Sequence[Pair]) -> list[GeneratedClip]:
    """`generate_chunk` with the models of this process."""
    return generate_chunk(*_loaded["models"], chunk)
