"""The tokenizer and the world models of an experiment, loaded for stages, for commands and for the simulation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from roboalign.io import find_output
from roboalign.rollout.spec import ModelName
from roboalign.run import Run
from roboalign.store import Corpus
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.model import load_tokenizer
from roboalign.world_model.model import WorldModel, load_world_model

SOURCES = "artifacts/sources/index.json"
TOKENIZER = "artifacts/tokenizer/model.safetensors"
WORLD_MODELS: dict[ModelName, str] = {
    "supervised": "artifacts/world_model/model.safetensors",
    "aligned": "artifacts/rl/model.safetensors",
}


@dataclass(frozen=True)
class VideoModels:
    """Loads the parts of an experiment that make videos. Raises StageError if the file of one is missing."""

    find: Callable[[str], Path]
    """The file of an output of the experiment, by its path from the experiment's folder."""
    device: torch.device

    @classmethod
    def of(cls, run: Run, accelerator: str) -> "VideoModels":
        """Load from a stage's declared inputs."""
        return cls(run.input, torch.device(accelerator))

    @classmethod
    def in_folder(cls, root: Path, device: str) -> "VideoModels":
        """Load from an experiment's folder."""
        return cls(lambda path: find_output(root, path), torch.device(device))

    def corpus(self) -> Corpus:
        """The episodes of all sources."""
        return Corpus.open(self.find(SOURCES))

    def tokenizer(self) -> BatchInvariantTokenizer:
        """The tokenizer."""
        return BatchInvariantTokenizer(load_tokenizer(self.find(TOKENIZER)).to(self.device))

    def world_model(self, name: ModelName = "supervised") -> WorldModel:
        """A world model."""
        return load_world_model(self.find(WORLD_MODELS[name]), str(self.device))
