"""What a reward model knows of each frame: the state that a probe perceives, the actions that led to it, and a few
statistics of the image."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR_M = 0.1
"""Unit of positions, in metres."""

MILLIMETRE = 1e-3

STATE_FEATURES = 44
"""Features of a frame that come from the perceived state, and from what the actions should have led to."""

IMAGE_FEATURES = 4
"""Features of a frame that come from its pixels alone."""

TIME_FEATURES = 3
"""Features of a frame's place in the clip, and whether the scene is known."""


@dataclass(frozen=True)
class FrameSample:
    """K sampled frames of each of B clips."""

    indices: Tensor
    """(B, K): frame numbers, ascending; the last one is repeated where a clip has fewer frames."""
    valid: Tensor
    """(B, K): false for the repeated ones."""


def sample_frames(lengths: Tensor, count: int, generator: torch.Generator | None = None) -> FrameSample:
    """All frames of clips of `lengths` (B,) frames, or `count` evenly spaced ones of longer clips, the first and the
    last among them. K is the most that any clip has.

    With a generator, the frames between are shifted at random by up to half their spacing, alike for all clips: a
    gradient through the samples then reaches every frame in some step.
    """
    most = int(min(count, int(lengths.max())))
    places = torch.arange(most, device=lengths.device).expand(len(lengths), most)
    last = (lengths - 1).unsqueeze(1)
    positions = places.float()
    if generator is not None and most > 2:
        shift = torch.rand(most - 2, generator=generator).to(lengths.device) - 0.5
        positions = torch.cat([positions[:, :1], positions[:, 1:-1] + shift, positions[:, -1:]], 1)
    spaced = (last * positions / max(1, count - 1)).round().long()
    indices = torch.where(lengths.unsqueeze(1) > count, spaced, torch.minimum(places, last))
    return FrameSample(indices, places < lengths.unsqueeze(1))


def action_features(actions: Tensor, sample: FrameSample) -> Tensor:
    """(B, K, 2A): the sum of the actions (B, T - 1, A) since the sampled frame before, and since the first frame."""
    total = F.pad(actions.cumsum(1), (0, 0, 1, 0))
    at = total.gather(1, sample.indices.clamp(max=total.shape[1] - 1).unsqueeze(-1).expand(-1, -1, total.shape[-1]))
    since = torch.cat([at[:, :1], at.diff(dim=1)], 1)
    return torch.cat([since, 0.25 * at], -1)


def image_features(videos: Tensor, sample: FrameSample) -> Tensor:
    """(B, K, IMAGE_FEATURES) of videos (B, T, 3, H, W) in [0, 1]: the mean absolute change since the frame before and
    since the first, sharpness against the first frame, and the change of brightness; each of order 1."""
    rows = torch.arange(len(videos), device=videos.device).unsqueeze(1)
    now, before, first = videos[rows, sample.indices], videos[rows, (sample.indices - 1).clamp(min=0)], videos[:, :1]
    sharp = _sharpness(now) / _sharpness(first).clamp(min=1e-3)
    return torch.stack(
        [
            20 * (now - before).abs().mean((2, 3, 4)),
            10 * (now - first).abs().mean((2, 3, 4)),
            4 * (sharp - 1),
            10 * (now - first).mean((2, 3, 4)),
        ],
        dim=-1,
    )


def _sharpness(frames: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels (B, K) of frames (B, K, 3, H, W)."""
    return frames.diff(dim=-1).abs().mean((2, 3, 4)) + frames.diff(dim=-2).abs().mean((2, 3, 4))


def state_features(states: Tensor, points: Tensor, peaks: Tensor, forces: Tensor, expected: Tensor) -> Tensor:
    """What a frame shows, and how far that is from what its actions lead to, (B, K, STATE_FEATURES), with gradients.

    Args:
        states: Perceived states (B, K, 14), columns STATE_NAMES.
        points: Image coordinates of gripper, object and goal (B, K, 3, 2).
        peaks: Largest probabilities of their heat maps (B, K, 3).
        forces: Typical forces of the clips' tasks in newtons, (B,).
        expected: The states (B, K, 14) that the outcome model expects; without gradient. `states` themselves if the
            actions are not known.
    """
    gripper, item, goal = states[..., 0:3] / NEAR_M, states[..., 3:6] / NEAR_M, states[..., 6:9] / NEAR_M
    touch = torch.stack(
        [
            states[..., 9],
            states[..., 10],
            torch.log1p(states[..., 11].clamp(min=0) / forces.unsqueeze(1)),
            0.5 * torch.log1p(states[..., 12].clamp(min=0) / MILLIMETRE),
            states[..., 13],
        ],
        dim=-1,
    )
    return torch.cat(
        [
            item - gripper,
            goal - item,
            gripper - gripper[:, :1],
            item - item[:, :1],
            F.pad(gripper.diff(dim=1), (0, 0, 1, 0)),
            F.pad(item.diff(dim=1), (0, 0, 1, 0)),
            touch,
            2 * points.flatten(2) - 1,
            4 * peaks,
            gripper - expected[..., 0:3] / NEAR_M,
            item - expected[..., 3:6] / NEAR_M,
            (expected[..., 6:9] - expected[..., 3:6]) / NEAR_M,
            expected[..., 10:11],
            expected[..., 13:14],
            states[..., 13:14] - expected[..., 13:14],
        ],
        dim=-1,
    )


def time_features(lengths: Tensor, sample: FrameSample, known: Tensor) -> Tensor:
    """(B, K, TIME_FEATURES): the place of each frame as a share of the clip, the length in 32 frames, and whether the
    scene is `known` (B,)."""
    share = sample.indices / (lengths - 1).clamp(min=1).unsqueeze(1)
    rest = torch.stack([lengths / 32, known.to(share.dtype)], -1).unsqueeze(1).expand(-1, share.shape[1], -1)
    return torch.cat([share.unsqueeze(-1), rest], -1)
