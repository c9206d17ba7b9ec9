"""What a scorer looks at: a few frames spread over the clip, each beside the first frame and the frame after it.

The difference to the next frame shows motion, jumps and flicker; the difference to the first shows what was done. The
motion profile summarises the differences of *all* neighbouring frames, so that nothing hides between the sampled ones.
"""

import torch
from torch import Tensor

CHANNELS = 9
"""Channels of a sampled frame: the frame, minus the first, the next minus it; three colours each."""

GAIN = 4.0
"""Factor on differences, which are small beside the colours themselves. Our choice."""

PROFILE = 12
"""Numbers of a motion profile."""


def pixels(videos: Tensor) -> Tensor:
    """Videos in [0, 1] as float32; uint8 is scaled."""
    return videos.float() / 255 if videos.dtype == torch.uint8 else videos.float()


def positions(lengths: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Frame numbers (B, count) spread over clips of `lengths` (B,) frames, the first and the last among them.

    With a generator the ones between are shifted by up to half their spacing; the shifts, as shares of the spacing, are
    the same for every clip of the batch, so that a clip's frames do not depend on what else is in the batch.
    """
    places = torch.linspace(0, 1, count) if count > 1 else torch.zeros(1)
    if generator is not None and count > 2:
        shift = torch.rand(count - 2, generator=generator) - 0.5
        places[1:-1] += shift / (count - 1)
    return ((lengths - 1).unsqueeze(1) * places.to(lengths.device)).round().long()


def gather(videos: Tensor, indices: Tensor) -> Tensor:
    """Frames (B, K, ...) at `indices` (B, K) of videos, or of what else comes by frame, (B, T, ...)."""
    return videos[torch.arange(len(videos), device=videos.device).unsqueeze(1), indices]


def views(videos: Tensor, lengths: Tensor, indices: Tensor) -> Tensor:
    """The sampled frames with their differences, (B, K, CHANNELS, H, W)."""
    now = pixels(gather(videos, indices))
    after = pixels(gather(videos, torch.minimum(indices + 1, lengths.unsqueeze(1) - 1)))
    return torch.cat([now - 0.5, GAIN * (now - pixels(videos[:, :1])), GAIN * (after - now)], dim=2)


def profile(videos: Tensor, lengths: Tensor) -> Tensor:
    """The motion profile (B, PROFILE): of the mean absolute change over one frame, over two frames, and of the second
    difference, each the mean, the standard deviation, the maximum and the minimum over the clip, in tenths.

    Every other pixel is looked at. Frames past a clip's length do not count; clips too short for a difference have 0.
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
        count = valid.sum(1).clamp(min=1)
        mean = (size * valid).sum(1) / count
        deviation = (((size - mean.unsqueeze(1)).square() * valid).sum(1) / count).sqrt()
        highest = size.masked_fill(~valid, 0).amax(1)
        lowest = torch.where(valid.any(1), size.masked_fill(~valid, torch.inf).amin(1), 0)
        parts.append(torch.stack([mean, deviation, highest, lowest], dim=1))
    return torch.cat(parts, dim=1) * 10
