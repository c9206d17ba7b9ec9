"""Features of each frame for a reward model: the perceived state, the actions that led to it, and image statistics."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR_M = 0.1
"""Unit of positions in metres: features are positions divided by it."""

MILLIMETRE = 1e-3

STATE_FEATURES = 44
"""Number of features of the perceived state and of the state that the actions should have led to."""

IMAGE_FEATURES = 4
"""Number of features of a frame's pixels."""

TIME_FEATURES = 3
"""Number of features of a frame's position in the clip and of whether the scene is known."""


@dataclass(frozen=True)
class FrameSample:
    """K sampled frames of each of B clips."""

    indices: Tensor
    """(B, K), ascending frame numbers; the last one is repeated if a clip has fewer than K frames."""
    valid: Tensor
    """(B, K), false for repeated frames."""


def sample_frames(lengths: Tensor, count: int, generator: torch.Generator | None = None) -> FrameSample:
    """Sample at most `count` frames of each of B clips with `lengths` (B,) frames.

    Clips of at most `count` frames are read whole; longer ones are sampled evenly, including the first and last frame.
    With a generator, the frames between are shifted at random by up to half their spacing, equally for all clips, so
    that gradients reach every frame over several steps.
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
    """Sums of actions (B, T - 1, A) since the previous sampled frame and since the first frame, (B, K, 2A)."""
    total = F.pad(actions.cumsum(1), (0, 0, 1, 0))
    at = total.gather(1, sample.indices.clamp(max=total.shape[1] - 1).unsqueeze(-1).expand(-1, -1, total.shape[-1]))
    since = torch.cat([at[:, :1], at.diff(dim=1)], 1)
    return torch.cat([since, 0.25 * at], -1)


def image_features(videos: Tensor, sample: FrameSample) -> Tensor:
    """Statistics (B, K, IMAGE_FEATURES) of the sampled frames of videos (B, T, 3, H, W) in [0, 1].

    Mean absolute change since the previous and since the first frame, sharpness relative to the first frame, and change
    of brightness. The factors give each feature a magnitude near 1.
    """
    rows = torch.arange(len(videos), device=videos.device).unsqueeze(1)
    frames, first = videos[rows, sample.indices], videos[:, :1]
    previous = videos[rows, (sample.indices - 1).clamp(min=0)]
    sharpness = _sharpness(frames) / _sharpness(first).clamp(min=1e-3)
    return torch.stack(
        [
            20 * (frames - previous).abs().mean((2, 3, 4)),
            10 * (frames - first).abs().mean((2, 3, 4)),
            4 * (sharpness - 1),
            10 * (frames - first).mean((2, 3, 4)),
        ],
        dim=-1,
    )


def _sharpness(frames: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, (B, K), of frames (B, K, 3, H, W)."""
    return frames.diff(dim=-1).abs().mean((2, 3, 4)) + frames.diff(dim=-2).abs().mean((2, 3, 4))


def state_features(states: Tensor, points: Tensor, peaks: Tensor, forces: Tensor, expected: Tensor) -> Tensor:
    """The perceived state and its difference from the expected state, (B, K, STATE_FEATURES), with gradients.

    Args:
        states: Perceived states (B, K, 14), columns STATE_NAMES.
        points: Image coordinates (B, K, 3, 2) of gripper, object and goal, in [0, 1].
        peaks: Maximum probabilities (B, K, 3) of their heat maps.
        forces: Typical forces (B,) of the clips' tasks in newtons.
        expected: The states (B, K, 14) that the outcome model predicts, without gradient; `states` if the actions are
            not known.
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
    """(B, K, TIME_FEATURES): relative time of each frame in [0, 1], length of the clip in units of 32 frames, and
    whether the scene is `known` (B,)."""
    time = sample.indices / (lengths - 1).clamp(min=1).unsqueeze(1)
    clip = torch.stack([lengths / 32, known.to(time.dtype)], -1).unsqueeze(1).expand(-1, time.shape[1], -1)
    return torch.cat([time.unsqueeze(-1), clip], -1)
