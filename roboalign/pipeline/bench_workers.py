"""Making many generated clips in several processes, each with the models loaded and one thread."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from roboalign.bench.annotations import read_annotations
from roboalign.bench.build import Builder
from roboalign.bench.generate import Chunks, Generate, Made, make
from roboalign.bench.labelling import Labels, all_limits, recorded_states
from roboalign.bench.pairs import Pair
from roboalign.bench.probed import ProbeFn
from roboalign.bench.spec import BenchSpec
from roboalign.probe.data import Task
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

MANY = 256
"""Clips from which on several processes make them: on two cores twice as fast as two threads of one process."""


@dataclass(frozen=True)
class ModelFiles:
    """The models that make and label generated clips, as files: each process loads them for itself."""

    tokenizer: Path
    world_models: Path
    """The folder of CHECKPOINTS."""
    probes: Mapping[ProbeName, Path]
    device: torch.device

    def generators(self, spec: BenchSpec) -> dict[str, Generate]:
        """A generator for each name that `Pair.model` can have."""
        tokenizer = BatchInvariantTokenizer(load_tokenizer(self.tokenizer).to(self.device))
        models = {
            name: load_world_model(self.world_models / file).to(self.device) for name, file in CHECKPOINTS.items()
        }
        result: dict[str, Generate] = {}

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

    def looks(self) -> dict[ProbeName, ProbeFn | None]:
        """The state probes; None for one that covers no source."""
        probes = {name: load_probe(file) for name, file in self.probes.items()}
        return {name: probe.to(self.device).states if probe.tasks else None for name, probe in probes.items()}

    def tasks(self) -> dict[ProbeName, frozenset[Task]]:
        """What each state probe covers."""
        return {name: frozenset(load_probe(file).tasks) for name, file in self.probes.items()}


def make_builder(
    corpus: Corpus, spec: BenchSpec, reward: RewardSpec, files: ModelFiles
) -> tuple[Builder, dict[ProbeName, Labels]]:
    """The builder, which labels through the judge's state probe, and what labels through the other probes."""
    states, looks, tasks = recorded_states(corpus), files.looks(), files.tasks()
    tokenizer = BatchInvariantTokenizer(load_tokenizer(files.tokenizer).to(files.device))
    builder = Builder(
        corpus, spec, reward, states, all_limits(corpus.infos, states, reward), looks["judge"],
        read_annotations(spec.annotations, reward), make_reconstructor(tokenizer, files.device),
        probed_tasks=tasks["judge"],
    )  # fmt: skip
    others = {name: look for name, look in looks.items() if name != "judge"}
    return builder, {name: replace(builder, probe=look, probed_tasks=tasks[name]) for name, look in others.items()}


_process: dict[str, tuple[Labels, dict[ProbeName, Labels], dict[str, Generate]]] = {}
"""What a process that makes clips has loaded."""


def _load(builder: Labels, others: Mapping[ProbeName, Labels], files: ModelFiles) -> None:
    """Load the models into this process, which has one thread: several processes share the cores."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    looks = files.looks()
    loaded = {name: replace(labels, probe=looks[name]) for name, labels in others.items()}
    _process["work"] = replace(builder, probe=looks["judge"]), loaded, files.generators(builder.spec)


def _make(recipes: Sequence[Pair]) -> list[Made]:
    """Make a chunk of clips in a process that `_load` has prepared."""
    builder, others, generators = _process["work"]
    return make(builder, generators, recipes, others)


def _plain(labels: Labels) -> Labels:
    """The labels without models, which do not travel between processes; what was measured with them travels."""
    return replace(labels, probe=None, reconstruct=None, measured_looks=labels.looks)


@contextmanager
def generate_in_processes(
    builder: Builder, others: Mapping[ProbeName, Labels], files: ModelFiles, count: int
) -> Iterator[Callable[[int], Chunks | None]]:
    """What makes many clips in `count` processes, on a CPU; few, or on another device, are made in this one."""
    with ExitStack() as stack:

        def chunks(clips: int) -> Chunks | None:
            if clips < MANY or files.device.type != "cpu":
                return None
            plain = {name: _plain(labels) for name, labels in others.items()}
            pool = ProcessPoolExecutor(
                count, mp_context=get_context("spawn"), initializer=_load, initargs=(_plain(builder), plain, files)
            )
            stack.enter_context(pool)
            return lambda parts: pool.map(_make, parts)

        yield chunks
