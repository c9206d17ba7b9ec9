"""A simulator from the files of a finished experiment.

simulation = load(Path("."))
world = simulation.reset("fetch", first_image, seed=0)            # uint8 (H, W, 3)
image = simulation.step(world, "fetch", action)                   # uint8 (H, W, 3); the action in fetch's own units
twin = world.select(torch.tensor([0]))
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor

from roboalign.io import read_json
from roboalign.rollout.build import build_decoder
from roboalign.rollout.decoder import Decoder
from roboalign.rollout.prompt import Start
from roboalign.rollout.spec import DriftSwrSpec, FixedDecodingSpec, RolloutSpec
from roboalign.store import ActionRange
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.interface import EncodedContext
from roboalign.tokenizer.model import load_tokenizer
from roboalign.types import Float32, UInt8
from roboalign.video import frames_to_video, video_to_frames
from roboalign.world_model.decode_state import DecodeState
from roboalign.world_model.model import load_world_model
from roboalign.world_model.sampler import Sampler

FILES = {"supervised": "artifacts/world_model/model.safetensors", "aligned": "artifacts/rl/model.safetensors"}
"""The world models of an experiment."""

ModelName = Literal["supervised", "aligned"]


class SimulationError(ValueError):
    """Something that the simulation needs is missing or does not fit; the message says what and what to do."""


@dataclass(frozen=True)
class Simulation:
    """A world model with its decoding to act in, and the scale of each source's actions."""

    tokenizer: BatchInvariantTokenizer
    sampler: Sampler
    decoding: FixedDecodingSpec
    longest: int
    """Frames that `ar`, whose sequence grows with every frame, has room for; other decodings go on for ever."""
    ranges: dict[str, ActionRange]
    device: torch.device

    @property
    def width(self) -> int:
        """Action dimensions of the model: those of the widest source."""
        return max(len(each.low) for each in self.ranges.values())

    def actions(self, source: str, actions: Float32) -> Tensor:
        """Actions (..., A) in a source's units as the model takes them: (..., width) in [-1, 1].

        Raises SimulationError if the source is unknown or has another number of dimensions.
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

    def reset(self, source: str, image: UInt8, seed: int = 0) -> Decoder[EncodedContext, DecodeState]:
        """A world of one robot of a source that looks like `image` (H, W, 3).

        Raises SimulationError if the source is unknown or the image has another size than the tokenizer's.
        """
        size = self.tokenizer.spec.height, self.tokenizer.spec.width
        if image.shape != (*size, 3):
            raise SimulationError(f"the image is {image.shape}, the tokenizer takes ({size[0]}, {size[1]}, 3)")
        mask = torch.arange(self.width, device=self.device) < len(self._range(source).low)
        frames = frames_to_video(image, self.device)[None]
        horizon = self.longest if self.decoding.needs_horizon else None
        start = Start(frames, mask[None], torch.tensor([seed], device=self.device), horizon)
        return build_decoder(self.decoding, self.tokenizer, self.sampler, start)

    def step(self, world: Decoder[EncodedContext, DecodeState], source: str, action: Float32) -> UInt8:
        """Act with the one robot of a world: (A,) in its source's units. The next image (H, W, 3)."""
        world.step(self.actions(source, np.asarray(action)[None]))
        return video_to_frames(world.take_frames()[0, 0])

    def _range(self, source: str) -> ActionRange:
        if source not in self.ranges:
            raise SimulationError(f"the model knows no source '{source}'; it was trained on: {', '.join(self.ranges)}")
        return self.ranges[source]


def load(
    root: Path = Path(),
    model: ModelName = "aligned",
    decoding: str | FixedDecodingSpec | None = None,
    *,
    temperature: float = 0.0,
    longest: int = 30,
    device: str = "cpu",
) -> Simulation:
    """The simulation of an experiment's folder; greedy at `temperature` 0.

    `decoding` is a spec, or a name in the experiment's `rollout.decodings`; by default its `scored_decoding`. `longest`
    is the number of frames that `ar` has room for. Raises SimulationError if a file is missing, and on a decoding that
    does not exist or needs more than actions.
    """
    paths = {
        "index": root / "artifacts/sources/index.json",
        "tokenizer": root / "artifacts/tokenizer/model.safetensors",
        "model": root / FILES[model],
    }
    for path in paths.values():
        if not path.exists():
            raise SimulationError(f"{path} is missing; run `dvc repro`, or `dvc pull` it")
    if decoding is None or isinstance(decoding, str):
        decoding = declared_decoding(root / "build/spec/rollout.yaml", decoding)
    if decoding.sees_true_frames:
        raise SimulationError(f"{decoding.kind} needs the true future, which a simulation has not; take another")
    listed = read_json(paths["index"])["sources"]
    ranges = {
        name: ActionRange(tuple(entry["action_low"]), tuple(entry["action_high"])) for name, entry in listed.items()
    }
    tokenizer = BatchInvariantTokenizer(load_tokenizer(paths["tokenizer"]).to(device))
    sampler = Sampler(load_world_model(paths["model"], device), temperature=temperature)
    return Simulation(tokenizer, sampler, decoding, longest, ranges, torch.device(device))


def declared_decoding(file: Path, name: str | None) -> FixedDecodingSpec:
    """The decoding `name` (None: the scored one) of the resolved section `rollout` in a file.

    Raises SimulationError if the file is missing, has no such decoding, or leaves its window to be measured.
    """
    if not file.exists():
        raise SimulationError(f"{file} is missing; run `dvc repro`, whose first stage writes it")
    section = yaml.safe_load(file.read_text(encoding="utf-8"))["rollout"]
    spec: RolloutSpec = TypeAdapter(RolloutSpec).validate_python(section)
    name = spec.scored_decoding if name is None else name
    if name not in spec.decodings:
        raise SimulationError(
            f"rollout.decodings has no '{name}'; it has {', '.join(spec.decodings)}. Add it to a file in specs/rollout/"
        )
    decoding = spec.decodings[name]
    if isinstance(decoding, DriftSwrSpec):
        raise SimulationError(f"the window of '{name}' is measured by the rollout stage; take a decoding of kind swr")
    return decoding
