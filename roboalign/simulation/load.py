"""A simulator from the files of a finished experiment.

simulation = load(Path("."))
world = simulation.reset("fetch", first_picture, seed=0)          # uint8 (H, W, 3)
picture = simulation.step(world, "fetch", action)                 # uint8 (H, W, 3); the action in fetch's own units
twin = simulation.simulator.branch(world, torch.tensor([0]))
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from roboalign.io import read_json
from roboalign.rollout.simulator import Endless, Simulator, World
from roboalign.rollout.spec import SwrSpec
from roboalign.store import ActionRange
from roboalign.tokenizer.model import Context, load_tokenizer
from roboalign.tokenizer.steady import SteadyTokenizer
from roboalign.types import Float32, UInt8
from roboalign.world_model.model import load_world_model
from roboalign.world_model.sampler import Sampler
from roboalign.world_model.state import State

FILES = {"supervised": "artifacts/world_model/model.safetensors", "aligned": "artifacts/rl/model.safetensors"}
"""The world models of an experiment."""

ModelName = Literal["supervised", "aligned"]


class SimulationError(ValueError):
    """Something that the simulation needs is missing or does not fit; the message says what and what to do."""


@dataclass(frozen=True)
class Simulation:
    """A simulator, and the scale of each source's actions."""

    simulator: Simulator[Context, State]
    tokenizer: SteadyTokenizer
    ranges: dict[str, ActionRange]
    device: torch.device

    @property
    def width(self) -> int:
        """Action dimensions of the model: those of the widest source."""
        return max(len(each.low) for each in self.ranges.values())

    def actions(self, source: str, actions: Float32) -> Tensor:
        """Actions (..., A) in a source's units as the model takes them: (..., width) in [-1, 1].

        Raises SimulationError where the source is unknown or has another number of dimensions.
        """
        scale = self._range(source)
        values = np.asarray(actions, np.float32)
        if values.shape[-1] != len(scale.low):
            raise SimulationError(f"{source}'s actions have {len(scale.low)} dimensions, these {values.shape[-1]}")
        if not np.isfinite(values).all():
            raise SimulationError("an action is NaN or infinite")
        flat = scale.normalise(values.reshape(-1, values.shape[-1])).reshape(values.shape)
        padding = [(0, 0)] * (values.ndim - 1) + [(0, self.width - values.shape[-1])]
        return torch.from_numpy(np.pad(flat, padding)).to(self.device)

    def reset(self, source: str, picture: UInt8, seed: int = 0) -> World[Context, State]:
        """A world of one robot of a source that looks like `picture` (H, W, 3).

        Raises SimulationError where the source is unknown or the picture has another size than the tokenizer's.
        """
        size = self.tokenizer.spec.height, self.tokenizer.spec.width
        if picture.shape != (*size, 3):
            raise SimulationError(f"the picture is {picture.shape}, the tokenizer takes ({size[0]}, {size[1]}, 3)")
        mask = torch.arange(self.width, device=self.device) < len(self._range(source).low)
        frames = torch.from_numpy(np.ascontiguousarray(picture)).to(self.device).permute(2, 0, 1)[None].float() / 255
        return self.simulator.reset(frames, mask[None], torch.tensor([seed], device=self.device))

    def step(self, world: World[Context, State], source: str, action: Float32) -> UInt8:
        """Act with the one robot of a world: (A,) in its source's units. The next picture (H, W, 3)."""
        shown = self.simulator.step(world, self.actions(source, np.asarray(action)[None]))
        picture: UInt8 = (shown[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        return picture

    def _range(self, source: str) -> ActionRange:
        if source not in self.ranges:
            raise SimulationError(f"the model knows no source '{source}'; it was trained on: {', '.join(self.ranges)}")
        return self.ranges[source]


def load(
    root: Path = Path(),
    model: ModelName = "aligned",
    decoding: Endless | None = None,
    *,
    temperature: float = 0.0,
    longest: int = 30,
    device: str = "cpu",
) -> Simulation:
    """The simulator of an experiment's folder; greedy at `temperature` 0, by SWR unless `decoding` says otherwise.

    Raises SimulationError where a file is missing.
    """
    places = {
        "index": root / "artifacts/sources/index.json",
        "tokenizer": root / "artifacts/tokenizer/model.safetensors",
        "model": root / FILES[model],
    }
    for path in places.values():
        if not path.exists():
            raise SimulationError(f"{path} is missing; run `dvc repro`, or `dvc pull` it")
    listed = read_json(places["index"])["sources"]
    ranges = {
        name: ActionRange(tuple(entry["action_low"]), tuple(entry["action_high"])) for name, entry in listed.items()
    }
    tokenizer = SteadyTokenizer(load_tokenizer(places["tokenizer"]).to(device))
    sampler = Sampler(load_world_model(places["model"], device), temperature=temperature)
    simulator = Simulator(tokenizer, sampler, decoding or SwrSpec(), longest=longest)
    return Simulation(simulator, tokenizer, ranges, torch.device(device))
