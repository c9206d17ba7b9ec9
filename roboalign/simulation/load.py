"""A simulator from the files of a finished experiment.

simulation = load(Path("."))
world = simulation.reset("fetch", first_image, seed=0)            # uint8 (H, W, 3)
image = simulation.step(world, "fetch", action)                   # uint8 (H, W, 3); the action in fetch's units
copy = world.select(torch.tensor([0]))
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor

from roboalign.io import find_output, read_json
from roboalign.pipeline.video_models import SOURCES, VideoModels
from roboalign.rollout.build import build_decoder
from roboalign.rollout.decoder import Decoder
from roboalign.rollout.prompt import Start
from roboalign.rollout.spec import DriftSwrSpec, FixedDecodingSpec, ModelName, RolloutSpec
from roboalign.store import ActionRange
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.interface import EncodedContext
from roboalign.types import Float32, UInt8
from roboalign.video import frames_to_video, video_to_frames
from roboalign.world_model.decode_state import DecodeState
from roboalign.world_model.sampler import Sampler


class SimulationError(ValueError):
    """An input of the simulation is missing or not valid; the message says what to do."""


@dataclass(frozen=True)
class Simulation:
    """A world model with a decoding, and the action ranges of all sources."""

    tokenizer: BatchInvariantTokenizer
    sampler: Sampler
    decoding: FixedDecodingSpec
    longest: int
    """Maximum number of frames of `ar`, whose sequence grows with each frame; other decodings have no limit."""
    ranges: dict[str, ActionRange]
    device: torch.device

    @property
    def width(self) -> int:
        """Number of action dimensions of the model, the maximum over sources."""
        return max(len(each.low) for each in self.ranges.values())

    def actions(self, source: str, actions: Float32) -> Tensor:
        """Convert actions (..., A) in a source's units to the model's, (..., width) in [-1, 1].

        Raises SimulationError if the source is unknown, or an action is not finite or has another width.
        """
        scale = self._range(source)
        values = np.asarray(actions, np.float32)
        if values.shape[-1] != len(scale.low):
            raise SimulationError(
                f"actions of {source} must have {len(scale.low)} dimensions, these have {values.shape[-1]}"
            )
        if not np.isfinite(values).all():
            raise SimulationError("an action is NaN or infinite; actions must be finite")
        flat = scale.normalise(values.reshape(-1, values.shape[-1])).reshape(values.shape)
        padding = [(0, 0)] * (values.ndim - 1) + [(0, self.width - values.shape[-1])]
        return torch.from_numpy(np.pad(flat, padding)).to(self.device)

    def reset(self, source: str, image: UInt8, seed: int = 0) -> Decoder[EncodedContext, DecodeState]:
        """Start a rollout of one robot.

        Args:
            source: The source of the robot.
            image: The first frame (H, W, 3), uint8.
            seed: Seed of the sampling.

        Raises:
            SimulationError: The source is unknown, or the image has another size than the tokenizer's.
        """
        size = self.tokenizer.spec.height, self.tokenizer.spec.width
        if image.shape != (*size, 3):
            raise SimulationError(f"the image must be ({size[0]}, {size[1]}, 3), not {image.shape}")
        mask = torch.arange(self.width, device=self.device) < len(self._range(source).low)
        frames = frames_to_video(image, self.device)[None]
        horizon = self.longest if self.decoding.needs_horizon else None
        start = Start(frames, mask[None], torch.tensor([seed], device=self.device), horizon)
        return build_decoder(self.decoding, self.tokenizer, self.sampler, start)

    def step(self, world: Decoder[EncodedContext, DecodeState], source: str, action: Float32) -> UInt8:
        """Apply an action (A,), in the source's units, to the robot of a world, and return the next frame (H, W, 3)."""
        world.step(self.actions(source, np.asarray(action)[None]))
        return video_to_frames(world.take_frames()[0, 0])

    def _range(self, source: str) -> ActionRange:
        """The action range of a source. Raises SimulationError if it is unknown."""
        if source not in self.ranges:
            raise SimulationError(
                f"the model was not trained on the source '{source}'; it was trained on: {', '.join(self.ranges)}"
            )
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
    """Load the simulation of an experiment.

    Args:
        root: The checkout of the experiment.
        model: The world model.
        decoding: A spec, or a name in `rollout.decodings`; None for the `scored_decoding`.
        temperature: Temperature of the sampling; 0 for greedy.
        longest: Maximum number of frames of `ar`.
        device: Device of the models.

    Raises:
        StageError: A file is missing.
        SimulationError: The decoding does not exist or needs true frames.
    """
    parts = VideoModels.in_folder(root, device)
    if decoding is None or isinstance(decoding, str):
        decoding = declared_decoding(find_output(root, "build/spec/rollout.yaml"), decoding)
    if decoding.sees_true_frames:
        raise SimulationError(
            f"{decoding.kind} needs true future frames, which a simulation does not have; use another"
        )
    sources = read_json(parts.find(SOURCES))["sources"]
    ranges = {
        name: ActionRange(tuple(entry["action_low"]), tuple(entry["action_high"])) for name, entry in sources.items()
    }
    sampler = Sampler(parts.world_model(model), temperature=temperature)
    return Simulation(parts.tokenizer(), sampler, decoding, longest, ranges, parts.device)


def declared_decoding(file: Path, name: str | None) -> FixedDecodingSpec:
    """Read the decoding `name`, or the scored one if None, from the resolved section `rollout` in `file`.

    Raises SimulationError if the decoding is missing, or if its window is measured by the rollout stage.
    """
    section = yaml.safe_load(file.read_text(encoding="utf-8"))["rollout"]
    spec: RolloutSpec = TypeAdapter(RolloutSpec).validate_python(section)
    name = spec.scored_decoding if name is None else name
    if name not in spec.decodings:
        raise SimulationError(
            f"rollout.decodings has no '{name}'; it has {', '.join(spec.decodings)}. Add it to a file in specs/rollout/"
        )
    decoding = spec.decodings[name]
    if isinstance(decoding, DriftSwrSpec):
        raise SimulationError(f"the window of '{name}' is measured by the rollout stage; use a decoding of kind swr")
    return decoding
