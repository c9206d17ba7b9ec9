"""Augmentation of training clips: blur, contrast, brightness and noise, which leave the shown state unchanged."""

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.distributed import BatchShard
from roboalign.probe.spec import AugmentationSpec

KERNEL = (0.06136, 0.24477, 0.38774, 0.24477, 0.06136)
"""A Gaussian of one pixel, cut at two."""


def soften(frames: Tensor, amounts: Tensor) -> Tensor:
    """Frames (B, K, 3, H, W) mixed with their Gaussian blur of one pixel, by `amounts` (B,) from 0 to 1."""
    smooth = F.pad(frames.flatten(0, 1), (2, 2, 2, 2), mode="replicate")
    # Sums of shifted copies: for two 5-tap filters seven times as fast as convolutions on a CPU.
    for axis, length in ((2, frames.shape[-2]), (3, frames.shape[-1])):
        smooth = torch.stack([w * smooth.narrow(axis, k, length) for k, w in enumerate(KERNEL)]).sum(0)
    smooth = smooth.view(frames.shape)
    return torch.lerp(frames, smooth, amounts.view(-1, 1, 1, 1, 1))


def augment(frames: Tensor, spec: AugmentationSpec, shard: BatchShard) -> Tensor:
    """Clips (B, K, 3, H, W) in [0, 1], a shard of the batch, each blurred, recoloured and noised by random amounts."""
    draws = shard.rows(torch.rand(4, len(frames) * shard.count, generator=shard.generator), 1).to(frames.device)
    shape = (-1, 1, 1, 1, 1)
    frames = soften(frames, torch.where(draws[0] < spec.blurred, draws[0] / max(spec.blurred, 1e-6), 0))
    contrast, brightness = spec.contrast * (2 * draws[1] - 1), spec.contrast * (draws[2] - 0.5)
    frames = (frames - 0.5) * (1 + contrast.view(shape)) + 0.5 + brightness.view(shape)
    noise = shard.randn(frames.shape).to(frames.device)
    return (frames + spec.noise * draws[3].view(shape) * noise).clamp(0, 1)
