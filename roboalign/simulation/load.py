"""A simulator from the files of a finished experiment: B robots of one source in one batch.

simulation = load(Path("."))
world = simulation.reset("fetch", images, seeds)                      # uint8 (B, H, W, 3), B seeds
images = simulation.step(world, simulation.actions("fetch", actions)) # uint8 (B, H, W, 3); (B, A) in fetch's units
copies = world.select(torch.tensor([0, 0, 0]), new_seeds)

`roboalign.env` has the same as Gymnasium environments, with rewards, success and episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from roboalign.io import find_output, read_json
from roboalign.pipeline.video_models import SOURCES, VideoModels
from roboalign.rollout.build import build_decoder
from roboalign.rollout.decoder import Decoder
from roboalign.rollout.prompt import Start
from roboalign.rollout.spec import DriftSwrSpec, FixedDecodingSpec, ModelName, RolloutSpec
from roboalign.run import read_section
from roboalign.store import ActionRange
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.interface import EncodedContext
from roboalign.types import Float32, UInt8
from roboalign.video import frames_to_video, video_to_frames
from roboalign.world_model.decode_state import DecodeState
from roboalign.world_model.sampler import Sampler

World = Decoder[EncodedContext, DecodeState]
"""Rollouts in progress."""


class SimulationError(ValueError):
    """An input of the simulation is missing or not valid; the message says what to do."""


@dataclass(frozen=True)
class Simulation:
    """A world model with a decoding, and the action ranges of all sources."""

    tokenizer: BatchInvariantTokenizer
    sampler: Sampler
    decoding: FixedDecodingSpec
    ranges: dict[str, ActionRange]
    device: torch.device

    @property
    def width(self) -> int:
        """Number of action dimensions of the model, the maximum over sources."""
        return max(len(each.low) for each in self.ranges.values())

    def actions(self, source: str, actions: Float32) -> Tensor:
        """Convert actions (B, A) in a source's units to the model's, (B, width) in [-1, 1]; beyond the source's range
        they are clipped, as recorded ones are.

        Raises SimulationError if the source is unknown, or an action is not finite or has another width.
        """
        scale = self.action_range(source)
        values = np.asarray(actions, np.float32)
        if values.shape[-1] != len(scale.low):
            raise SimulationError(
                f"actions of {source} must have {len(scale.low)} dimensions, these have {values.shape[-1]}"
            )
        if not np.isfinite(values).all():
            raise SimulationError("an action is NaN or infinite; actions must be finite")
        return self.pad(scale.normalise(values))

    def pad(self, normalized: Float32) -> Tensor:
        """Normalised actions (B, A) of a source as the model takes them, (B, width): 0 in the dimensions it lacks."""
        return torch.from_numpy(np.pad(normalized, ((0, 0), (0, self.width - normalized.shape[1])))).to(self.device)

    def reset(self, source: str, images: UInt8, seeds: Sequence[int], horizon: int | None = None) -> World:
        """Start rollouts of robots of one source.

        Args:
            source: The source of the robots.
            images: The first frames (B, H, W, 3), uint8.
            seeds: The seed of each row's sampling, below 2^63.
            horizon: Most frames to come; `ar`, whose sequence grows with each frame, needs it.

        Raises:
            SimulationError: The source is unknown, or the images have another size than the tokenizer's.
        """
        size = self.tokenizer.spec.height, self.tokenizer.spec.width
        if images.ndim != 4 or images.shape[1:] != (*size, 3):
            raise SimulationError(f"the images must be (B, {size[0]}, {size[1]}, 3), not {images.shape}")
        mask = torch.arange(self.width, device=self.device) < len(self.action_range(source).low)
        start = Start(
            frames_to_video(images, self.device), mask.expand(len(images), -1),
            torch.tensor(list(seeds), dtype=torch.long, device=self.device), horizon,
        )  # fmt: skip
        return build_decoder(self.decoding, self.tokenizer, self.sampler, start)

    def step(self, world: World, actions: Tensor) -> UInt8:
        """Apply actions (B, width), as `actions` and `pad` return them; the next frames (B, H, W, 3)."""
        world.step(actions)
        return video_to_frames(world.take_frames()[:, -1])

    def action_range(self, source: str) -> ActionRange:
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
    device: str = "cpu",
) -> Simulation:
    """Load the simulation of an experiment.

    Args:
        root: The checkout of the experiment.
        model: The world model.
        decoding: A spec, or a name in `rollout.decodings`; None for the `scored_decoding`.
        temperature: Temperature of the sampling; 0 for greedy.
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
    return Simulation(parts.tokenizer(), sampler, decoding, ranges, parts.device)


def declared_decoding(file: Path, name: str | None) -> FixedDecodingSpec:
    """Read the decoding `name`, or the scored one if None, from the resolved section `rollout` in `file`.

    Raises SimulationError if the decoding is missing, or if its window is measured by the rollout stage.
    """
    spec: RolloutSpec = read_section(file, "rollout", RolloutSpec)
    name = spec.scored_decoding if name is None else name
    if name not in spec.decodings:
        raise SimulationError(
            f"rollout.decodings has no '{name}'; it has {', '.join(spec.decodings)}. Add it to a file in specs/rollout/"
        )
    decoding = spec.decodings[name]
    if isinstance(decoding, DriftSwrSpec):
        raise SimulationError(f"the window of '{name}' is measured by the rollout stage; use a decoding of kind swr")
    return decoding
