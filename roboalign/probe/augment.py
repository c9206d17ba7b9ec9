"""Augmentation of training clips by blur, contrast, brightness and noise, which do not change the shown state."""

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.distributed import BatchShard
from roboalign.probe.spec import AugmentationSpec

KERNEL = (0.06136, 0.24477, 0.38774, 0.24477, 0.06136)
"""A Gaussian with a standard deviation of one pixel, truncated at two pixels."""


def blur(frames: Tensor, amounts: Tensor) -> Tensor:
    """Interpolate frames (B, K, 3, H, W) with their Gaussian blur by `amounts` (B,), from 0 (unchanged) to 1."""
    blurred = F.pad(frames.flatten(0, 1), (2, 2, 2, 2), mode="replicate")
    # Sums of shifted copies, which for two 5-tap filters are seven times as fast as convolutions on a CPU.
    for axis, length in ((2, frames.shape[-2]), (3, frames.shape[-1])):
        blurred = torch.stack([w * blurred.narrow(axis, k, length) for k, w in enumerate(KERNEL)]).sum(0)
    return torch.lerp(frames, blurred.view(frames.shape), amounts.view(-1, 1, 1, 1, 1))


def augment(frames: Tensor, spec: AugmentationSpec, shard: BatchShard) -> Tensor:
    """Augment clips (B, K, 3, H, W) in [0, 1], a shard of the batch, each with its own random changes."""
    draws = shard.rows(torch.rand(4, len(frames) * shard.count, generator=shard.generator), 1).to(frames.device)
    shape = (-1, 1, 1, 1, 1)
    frames = blur(frames, torch.where(draws[0] < spec.blurred, draws[0] / max(spec.blurred, 1e-6), 0))
    contrast, brightness = spec.contrast * (2 * draws[1] - 1), spec.contrast * (draws[2] - 0.5)
    frames = (frames - 0.5) * (1 + contrast.view(shape)) + 0.5 + brightness.view(shape)
    noise = shard.randn(frames.shape).to(frames.device)
    return (frames + spec.noise * draws[3].view(shape) * noise).clamp(0, 1)
