"""The state probe: predicts the simulator's states from clips of simulated sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from roboalign import checkpoint
from roboalign.probe.data import Task, list_tasks
from roboalign.probe.keypoints import centres
from roboalign.probe.network import EnsembleMember
from roboalign.probe.scene import Scenes
from roboalign.probe.spec import PerceptionSpec
from roboalign.probe.targets import Outputs, as_state
from roboalign.types import STATE_NAMES, Episode, Float32, Json, UInt8
from roboalign.video import to_float

FRAMES = 4
"""Length in frames of the clips that `PerceptionSpec.batch_size` counts."""


@dataclass(frozen=True)
class Perception:
    """A probe member's predictions for B clips of T frames."""

    states: Tensor
    """(B, T, 14), columns STATE_NAMES; contact and success are probabilities."""
    points: Tensor
    """(B, T, 3, 2), image coordinates of gripper, object and goal, in [0, 1]."""
    peaks: Tensor
    """(B, T, 3), maximum probability of each heat map; low if the point is not found."""


class Probe(nn.Module):
    """An ensemble of networks whose mean is the predicted state. It covers only the tasks that it was built for."""

    def __init__(self, spec: PerceptionSpec, tasks: Sequence[Task], size: tuple[int, int]) -> None:
        super().__init__()
        self.spec, self.tasks, self.size = spec, tuple(tasks), size
        self.scenes = Scenes(len(self.tasks), size)
        self.members = nn.ModuleList(EnsembleMember(spec, len(self.tasks)) for _ in range(spec.members))

    @classmethod
    def of(cls, spec: PerceptionSpec, episodes: Sequence[Episode], size: tuple[int, int]) -> "Probe":
        """Build an untrained probe for the tasks of `episodes`, and fit their cameras, backgrounds and constants.

        Args:
            spec: The networks.
            episodes: Training episodes with states and keypoints.
            size: Height and width of the images in pixels.
        """
        probe = cls(spec, list_tasks(episodes), size)
        for number, task in enumerate(probe.tasks):
            probe.scenes.learn(number, [episode for episode in episodes if (episode.source, episode.task) == task])
        return probe

    def first(self) -> "Probe":
        """A probe of the first member only, which shares its weights with this one."""
        if len(self.members) == 1:
            return self
        probe = Probe(self.spec.model_copy(update={"members": 1}), self.tasks, self.size)
        probe.scenes, probe.members = self.scenes, nn.ModuleList([self.members[0]])
        return probe

    def covers(self, source: str, task: str) -> bool:
        """Whether the probe was trained on this task of this source."""
        return (source, task) in self.tasks

    @torch.no_grad()
    def read_states(self, source: str, task: str, clips: UInt8) -> tuple[Float32, Float32]:
        """Predict states and image coordinates by each of the M members.

        Args:
            source: Source of the clips.
            task: Task of the clips.
            clips: (N, T, H, W, 3), uint8.

        Returns:
            States (M, N, T, 14), columns STATE_NAMES, and image coordinates (M, N, T, 6), columns KEYPOINT_NAMES.

        Raises:
            ValueError: The task is not covered, or the frames have another size.
        """
        if not self.covers(source, task):
            known = ", ".join("/".join(each) for each in self.tasks) or "none"
            raise ValueError(f"the state probe was not trained on {source}/{task}; it covers: {known}")
        if clips.ndim != 5 or clips.shape[2:4] != self.size:
            raise ValueError(f"the state probe expects frames of {self.size} pixels, not {clips.shape[2:4]}")
        states = np.empty((len(self.members), *clips.shape[:2], len(STATE_NAMES)), np.float32)
        points = np.empty((len(self.members), *clips.shape[:2], 6), np.float32)
        device = self.scenes.means.device
        number = torch.tensor([self.tasks.index((source, task))], device=device)
        # A batch has a fixed number of frames, so that memory does not depend on the length of clips.
        batch = max(1, self.spec.batch_size * FRAMES // clips.shape[1])
        for start in range(0, len(clips), batch):
            rows = slice(start, start + batch)
            part = torch.from_numpy(np.ascontiguousarray(clips[rows])).to(device)
            videos = to_float(part.permute(0, 1, 4, 2, 3))
            tasks = number.expand(len(videos))
            for index in range(len(self.members)):
                perception = self.perceive(videos, tasks, index)
                states[index, rows] = perception.states.cpu().numpy()
                points[index, rows] = perception.points.flatten(2).cpu().numpy()
        return states, points

    def perceive(self, videos: Tensor, tasks: Tensor, member: int) -> Perception:
        """The predictions of one member for videos (B, T, 3, H, W) in [0, 1] of tasks (B,), with gradients."""
        return self.interpret(self(videos, tasks, member), tasks)

    def interpret(self, outputs: Outputs, tasks: Tensor) -> Perception:
        """Convert the outputs of `forward` for tasks (B,) to states, image coordinates and peaks."""
        places, touch, heat = outputs
        batch, time = places.shape[:2]
        peaks = heat.flatten(2).softmax(-1).amax(-1)
        return Perception(
            as_state(places, touch, self.scenes.forces[tasks]),
            centres(heat).view(batch, time, -1, 2),
            peaks.view(batch, time, -1),
        )

    def states(self, source: str, task: str, frames: UInt8) -> Float32:
        """Predict the states (N, T, 14), columns STATE_NAMES, of clips (N, T, H, W, 3); the mean over the members.

        Contact and success are probabilities; the goal is the same in all frames of a clip. Deterministic. Raises
        ValueError as `read_states` does.
        """
        states: Float32 = self.read_states(source, task, frames)[0].mean(0)
        return states

    def forward(self, videos: Tensor, tasks: Tensor, member: int) -> Outputs:
        """The raw outputs of one member for videos (B, T, 3, H, W) in [0, 1] of tasks (B,); see
        `EnsembleMember.forward`."""
        result: Outputs = self.members[member](videos, tasks, self.scenes)
        return result


def save_probe(path: Path, probe: Probe, provenance: str) -> None:
    """Write a probe to a checkpoint, with its spec, its tasks and the image size."""
    checkpoint.save_model(
        path, probe, probe.spec, provenance, tasks=[list(t) for t in probe.tasks], size=list(probe.size)
    )


def load_probe(path: Path) -> Probe:
    """Load a probe, frozen and in evaluation mode. Raises CheckpointError if the file is damaged or not a probe's."""

    def build(metadata: dict[str, Json]) -> Probe:
        tasks, size = [(str(s), str(t)) for s, t in metadata["tasks"]], metadata["size"]
        return Probe(checkpoint.read_spec(metadata, PerceptionSpec), tasks, (int(size[0]), int(size[1])))

    return checkpoint.load_model(path, build).requires_grad_(False).eval()
