"""Constants of each task: camera, background, typical depths and forces."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from roboalign.probe.camera import fit_camera, fit_plane, flat_lens, lens, point_depths
from roboalign.probe.keypoints import COUNT
from roboalign.types import STATE_NAMES, Episode, Float32
from roboalign.video import to_float

FARTHEST, NEAREST = 20.0, 0.05
"""Limits of depths, in metres."""

RADIUS_MARGIN = 1.5
"""Factor on the maximum difference between a training frame and its task's median frame, for `Scenes.radii`."""


class Scenes(nn.Module):
    """Constants of K tasks, stored in the checkpoint with the weights."""

    lenses: Tensor
    """(K, 3, 4), inverse cameras; see camera.py."""
    planes: Tensor
    """(K, 3, 3), the planes near which gripper, object and goal move: 1 / depth is linear in (u, v, 1)."""
    scatter: Tensor
    """(K, 3), root mean square distance in metres of the points from these planes along the ray. It is the unit of the
    predicted depth, so a point that never leaves the plane has exactly the plane's depth."""
    pictures: Tensor
    """(K, 3, H, W), uint8, median frames."""
    means: Tensor
    """(K, 14), mean states, used as a trivial baseline."""
    forces: Tensor
    """(K,), typical contact forces in newtons."""
    radii: Tensor
    """(K,), maximum mean absolute difference from the median frame, for pixels in [0, 1], up to which a frame is
    identified as one of the task."""

    def __init__(self, tasks: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("lenses", torch.zeros(tasks, 3, 4))
        self.register_buffer("planes", torch.zeros(tasks, 3, 3))
        self.register_buffer("scatter", torch.zeros(tasks, COUNT))
        self.register_buffer("pictures", torch.zeros(tasks, 3, *size, dtype=torch.uint8))
        self.register_buffer("means", torch.zeros(tasks, len(STATE_NAMES)))
        self.register_buffer("forces", torch.ones(tasks))
        self.register_buffer("radii", torch.zeros(tasks))

    def background(self, tasks: Tensor) -> Tensor:
        """The median frames (N, 3, H, W) in [0, 1] of tasks (N,)."""
        return to_float(self.pictures[tasks])

    def identify(self, frames: Tensor) -> Tensor:
        """The tasks (B,) whose median frames are nearest to frames (B, 3, H, W) in [0, 1]; -1 if beyond its radius."""
        if not len(self.radii):
            return torch.full((len(frames),), -1, device=frames.device)
        pictures = to_float(self.pictures)
        distances = torch.stack([(frames - picture).abs().mean((1, 2, 3)) for picture in pictures], 1)
        nearest, tasks = distances.min(1)
        return torch.where(nearest <= self.radii[tasks], tasks, -1)

    def plane_depths(self, tasks: Tensor, pixels: Tensor) -> Tensor:
        """Depths (B, T, 3) in metres of image points (B, T, 3, 2), assumed to be on the planes of their tasks (B,)."""
        planes = self.planes[tasks].unsqueeze(1)
        return 1 / ((planes[..., :2] * pixels).sum(-1) + planes[..., 2]).clamp(1 / FARTHEST, 1 / NEAREST)

    def learn(self, number: int, episodes: Sequence[Episode]) -> None:
        """Set the constants of task `number` from its training episodes with states and keypoints.

        If the recorded points do not determine a camera, positions are an affine function of image coordinates.
        """
        states = np.concatenate([_state(episode) for episode in episodes]).astype(np.float64)
        pixels = np.concatenate([_keypoints(episode) for episode in episodes]).astype(np.float64)
        points, places = states[:, :9].reshape(-1, 3), pixels.reshape(-1, 2)
        try:
            camera = fit_camera(points, places)
        except ValueError:
            self.lenses[number] = torch.from_numpy(flat_lens(points, places))
            self.planes[number] = torch.tensor([0.0, 0.0, 1.0])
        else:
            self.lenses[number] = torch.from_numpy(lens(camera))
            depths = point_depths(camera, points).reshape(-1, COUNT).clip(NEAREST, FARTHEST)
            planes = [fit_plane(places.reshape(-1, COUNT, 2)[:, k], depths[:, k]) for k in range(COUNT)]
            self.planes[number] = torch.from_numpy(np.array(planes))
            image_points = torch.from_numpy(pixels.reshape(1, -1, COUNT, 2)).float()
            plane_depths = self.plane_depths(torch.tensor([number]), image_points)
            self.scatter[number] = torch.from_numpy(depths).sub(plane_depths[0]).square().mean(0).sqrt()
        picture = np.median(np.concatenate([episode.frames for episode in episodes]), axis=0).astype(np.uint8)
        self.pictures[number] = torch.from_numpy(picture).permute(2, 0, 1)
        frames = np.concatenate([episode.frames for episode in episodes]).astype(np.float32)
        self.radii[number] = RADIUS_MARGIN * float(np.abs(frames - picture).mean((1, 2, 3)).max()) / 255
        self.means[number] = torch.from_numpy(states.mean(0))
        force = states[:, STATE_NAMES.index("force")]
        if (force > 0).any():
            self.forces[number] = float(np.median(force[force > 0]))


def _state(episode: Episode) -> Float32:
    assert episode.state is not None
    return episode.state


def _keypoints(episode: Episode) -> Float32:
    assert episode.keypoints is not None
    return episode.keypoints
