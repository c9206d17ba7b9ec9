"""What benchmarks/gpu.py measures: sizes of an experiment on a device, random data, times by phase, peak memory."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.sampler import synchronise
from roboalign.spec.compose import compose
from roboalign.spec.document import COMMAND_LINE
from roboalign.spec.estimates import estimates
from roboalign.spec.experiment import Experiment
from roboalign.spec.library import Library
from roboalign.spec.training import TrainingSpec
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel, seeded_world_model

ROOT = Path(__file__).parent.parent
EXPERIMENTS = {"paper": "paper", "small": "smoke"}
Row = dict[str, Any]
"""Figures by name; `what` says of what, `failed` why there are none."""


@dataclass(frozen=True)
class Setup:
    """What is measured, and where."""

    size: str
    device: torch.device
    product_rate: float = 0.0
    """Operations a second of matrix products in the precision of training."""
    memory_rate: float = 0.0
    """Bytes a second of reading memory."""

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment whose sizes are taken."""
        return compose(Library(ROOT), EXPERIMENTS[self.size], COMMAND_LINE).require()

    @property
    def dtype(self) -> torch.dtype:
        """The precision of products in training."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    @property
    def action_width(self) -> int:
        """Action dimensions of the widest source."""
        return max(source.action_width for source in self.experiment.sources.values())

    def batch_size(self, training: TrainingSpec) -> int:
        """Samples of a step on one device."""
        return math.ceil(training.batch_size / self.experiment.hardware.device.ranks)

    def autocast(self) -> torch.autocast:
        """Mixed precision on a GPU."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def random(self, *size: int) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(*size, device=self.device)

    def codes(self, count: int, *size: int) -> Tensor:
        """Codes below `count`."""
        return torch.randint(count, size, device=self.device)

    def world_model(self, seed: int = 0) -> WorldModel:
        """A world model with random weights."""
        shape = TokenShape.of(self.experiment.tokenizer, self.action_width)
        return seeded_world_model(self.experiment.world_model, shape, seed).to(self.device)

    def planned(self, part: str) -> float | None:
        """GB of a device that `plan` estimates for a part."""
        return next((row.memory_gb for row in estimates(self.experiment) if row.part == part), None)

    def peak(self) -> float | None:
        """Peak GB of the device since the last call."""
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
        return peak


class Clock:
    """Seconds by phase, with the device synchronised."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the body to a phase."""
        synchronise(self.device.type)
        began = time.perf_counter()
        yield
        synchronise(self.device.type)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
