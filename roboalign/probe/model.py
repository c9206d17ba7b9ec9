"""The state probe: clips of simulated sources to the states that they show."""

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
"""Frames of the clips that PerceptionSpec.batch_size counts."""


@dataclass(frozen=True)
class Perception:
    """What a probe sees in B clips of T frames."""

    states: Tensor
    """(B, T, 14), columns STATE_NAMES; contact and success are probabilities."""
    points: Tensor
    """(B, T, 3, 2): image coordinates of gripper, object and goal."""
    peaks: Tensor
    """(B, T, 3): the largest probability of each heat map: low for a point that is not found."""


class Probe(nn.Module):
    """Some networks side by side, which answer with their mean. It covers the tasks that it was built for, no other."""

    def __init__(self, spec: PerceptionSpec, tasks: Sequence[Task], size: tuple[int, int]) -> None:
        super().__init__()
        self.spec, self.tasks, self.size = spec, tuple(tasks), size
        self.scenes = Scenes(len(self.tasks), size)
        self.members = nn.ModuleList(EnsembleMember(spec, len(self.tasks)) for _ in range(spec.members))

    @classmethod
    def of(cls, spec: PerceptionSpec, episodes: Sequence[Episode], size: tuple[int, int]) -> "Probe":
        """An untrained probe for the tasks of training episodes with states, whose cameras and backgrounds it knows."""
        probe = cls(spec, list_tasks(episodes), size)
        for number, task in enumerate(probe.tasks):
            probe.scenes.learn(number, [episode for episode in episodes if (episode.source, episode.task) == task])
        return probe

    def first(self) -> "Probe":
        """A probe of the first network alone; it shares its weights with this one."""
        if len(self.members) == 1:
            return self
        probe = Probe(self.spec.model_copy(update={"members": 1}), self.tasks, self.size)
        probe.scenes, probe.members = self.scenes, nn.ModuleList([self.members[0]])
        return probe

    def covers(self, source: str, task: str) -> bool:
        """Whether it can read clips of a source's task: whether that had states when it was trained."""
        return (source, task) in self.tasks

    @torch.no_grad()
    def read_states(self, source: str, task: str, clips: UInt8) -> tuple[Float32, Float32]:
        """What each member says, without taking the mean: states (M, N, T, 14), and points in the picture (M, N, T, 6),
        columns KEYPOINT_NAMES, of clips (N, T, H, W, 3).

        Raises ValueError for a source or task that it does not cover, and for frames of another size.
        """
        if not self.covers(source, task):
            known = ", ".join("/".join(each) for each in self.tasks) or "none"
            raise ValueError(f"the state probe was not trained on {source}/{task}; it covers: {known}")
        if clips.ndim != 5 or clips.shape[2:4] != self.size:
            raise ValueError(f"the state probe takes clips of {self.size} pixels, not {clips.shape[2:4]}")
        states = np.empty((len(self.members), *clips.shape[:2], len(STATE_NAMES)), np.float32)
        points = np.empty((len(self.members), *clips.shape[:2], 6), np.float32)
        device = self.scenes.means.device
        number = torch.tensor([self.tasks.index((source, task))], device=device)
        # Batches of a fixed number of frames, so that long clips need no more memory than short ones.
        batch = max(1, self.spec.batch_size * FRAMES // clips.shape[1])
        for start in range(0, len(clips), batch):
            rows = slice(start, start + batch)
            part = torch.from_numpy(np.ascontiguousarray(clips[rows])).to(device)
            videos = to_float(part.permute(0, 1, 4, 2, 3))
            tasks = number.expand(len(videos))
            for index in range(len(self.members)):
                seen = self.perceive(videos, tasks, index)
                states[index, rows] = seen.states.cpu().numpy()
                points[index, rows] = seen.points.flatten(2).cpu().numpy()
        return states, points

    def perceive(self, videos: Tensor, tasks: Tensor, member: int) -> Perception:
        """What one member sees in videos (B, T, 3, H, W) in [0, 1] of tasks (B,), with gradients."""
        return self.interpret(self(videos, tasks, member), tasks)

    def interpret(self, outputs: Outputs, tasks: Tensor) -> Perception:
        """What the outputs of `forward` for tasks (B,) mean."""
        places, touch, heat = outputs
        batch, time = places.shape[:2]
        peaks = heat.flatten(2).softmax(-1).amax(-1)
        return Perception(
            as_state(places, touch, self.scenes.forces[tasks]),
            centres(heat).view(batch, time, -1, 2),
            peaks.view(batch, time, -1),
        )

    def states(self, source: str, task: str, frames: UInt8) -> Float32:
        """The states (N, T, 14), columns STATE_NAMES, that clips (N, T, H, W, 3) of a source's task show.

        Contact and success are probabilities; the goal is the same in all frames of a clip. Deterministic. Raises
        ValueError as `look` does.
        """
        states: Float32 = self.read_states(source, task, frames)[0].mean(0)
        return states

    def forward(self, videos: Tensor, tasks: Tensor, member: int) -> Outputs:
        """What one member says of videos (B, T, 3, H, W) in [0, 1] of tasks (B,), see Member.forward."""
        result: Outputs = self.members[member](videos, tasks, self.scenes)
        return result


def save_probe(path: Path, probe: Probe, provenance: str) -> None:
    """Write the probe with its spec and the tasks that it covers."""
    checkpoint.save_model(
        path, probe, probe.spec, provenance, tasks=[list(t) for t in probe.tasks], size=list(probe.size)
    )


def load_probe(path: Path) -> Probe:
    """The probe in a model file, frozen, in evaluation mode. Raises CheckpointError on a damaged or foreign file."""

    def build(metadata: dict[str, Json]) -> Probe:
        tasks, size = [(str(s), str(t)) for s, t in metadata["tasks"]], metadata["size"]
        return Probe(checkpoint.read_spec(metadata, PerceptionSpec), tasks, (int(size[0]), int(size[1])))

    return checkpoint.load_model(path, build).requires_grad_(False).eval()
