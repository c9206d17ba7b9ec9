"""Image inputs of a scorer: a few frames of a clip with their differences, and a motion profile of all frames.

The difference to the next frame shows motion, jumps and flicker; the difference to the first frame shows what has
changed. The motion profile covers the differences of all neighbouring frames, so faults between the sampled frames are
not missed.
"""

import torch
from torch import Tensor

CHANNELS = 9
"""Channels of a sampled frame: its colours, the difference to the first frame, and the difference of the next frame."""

GAIN = 4.0
"""Factor on differences, which are small compared with the colours (our choice)."""

PROFILE = 12
"""Length of a motion profile."""


def pixels(videos: Tensor) -> Tensor:
    """Convert videos to float32 in [0, 1]; uint8 is divided by 255."""
    return videos.float() / 255 if videos.dtype == torch.uint8 else videos.float()


def frame_positions(lengths: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Evenly spaced frame numbers (B, count) of clips of `lengths` (B,) frames, including the first and the last.

    With a generator, those between are shifted at random by up to half their spacing. The shifts, relative to the
    spacing, are equal for all clips, so a clip's frames do not depend on the other clips of the batch.
    """
    fractions = torch.linspace(0, 1, count) if count > 1 else torch.zeros(1)
    if generator is not None and count > 2:
        shift = torch.rand(count - 2, generator=generator) - 0.5
        fractions[1:-1] += shift / (count - 1)
    return ((lengths - 1).unsqueeze(1) * fractions.to(lengths.device)).round().long()


def gather_frames(videos: Tensor, indices: Tensor) -> Tensor:
    """The frames (B, K, ...) at `indices` (B, K) of videos (B, T, ...)."""
    return videos[torch.arange(len(videos), device=videos.device).unsqueeze(1), indices]


def frame_views(videos: Tensor, lengths: Tensor, indices: Tensor) -> Tensor:
    """The frames at `indices` (B, K) with their differences, (B, K, CHANNELS, H, W).

    `videos` are (B, T, 3, H, W) with `lengths` (B,) valid frames; the last frame's difference to the next is 0.
    """
    frames = pixels(gather_frames(videos, indices))
    following = pixels(gather_frames(videos, torch.minimum(indices + 1, lengths.unsqueeze(1) - 1)))
    return torch.cat([frames - 0.5, GAIN * (frames - pixels(videos[:, :1])), GAIN * (following - frames)], dim=2)


def motion_profile(videos: Tensor, lengths: Tensor) -> Tensor:
    """The motion profile (B, PROFILE) of videos (B, T, 3, H, W) with `lengths` (B,) valid frames.

    Mean, standard deviation, maximum and minimum over the clip of the mean absolute change over one frame, over two
    frames, and of the second difference, times 10. Only every other pixel is used. A clip that is too short for a
    difference has 0 there.
    """
    small = pixels(videos[..., ::2, ::2])
    time = small.shape[1]
    parts = []
    one = small.diff(dim=1)
    two = small[:, 2:] - small[:, :-2] if time > 2 else small[:, :0]
    for reach, change in ((1, one), (2, two), (2, one.diff(dim=1))):
        if change.shape[1] == 0:
            parts.append(small.new_zeros(len(small), 4))
            continue
        size = change.abs().mean((2, 3, 4))
        valid = torch.arange(size.shape[1], device=size.device) < (lengths - reach).unsqueeze(1)
        count = valid.sum(1).clamp(min=1)  # 1 avoids a division by 0 for clips without a valid difference
        mean = (size * valid).sum(1) / count
        deviation = (((size - mean.unsqueeze(1)).square() * valid).sum(1) / count).sqrt()
        highest = size.masked_fill(~valid, 0).amax(1)
        lowest = torch.where(valid.any(1), size.masked_fill(~valid, torch.inf).amin(1), 0)
        parts.append(torch.stack([mean, deviation, highest, lowest], dim=1))
    return torch.cat(parts, dim=1) * 10
