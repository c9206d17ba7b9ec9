"""The tokenizer's losses, as functions of tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.tokenizer.spec import LossSpec

FULL_MOTION = 0.25
"""Colour difference to the context from which a pixel has the full motion weight."""


def keypoint_bumps(points: Tensor, rows: int, columns: int, radius: float) -> Tensor:
    """A Gaussian bump (..., rows, columns) of height 1 around the nearest of the points (..., P, 2), each (u, v).

    `radius` is its standard deviation as a share of the width. Points that are NaN have none.
    """
    u = (torch.arange(columns, device=points.device) + 0.5) / columns
    v = (torch.arange(rows, device=points.device) + 0.5) / columns
    shape = (*points.shape[:-1], 1, 1)
    across = u - points[..., 0].reshape(shape)
    down = v.unsqueeze(-1) - points[..., 1].reshape(shape) * (rows / columns)
    bumps = torch.exp(-(across.square() + down.square()) / (2 * radius**2))
    return bumps.nan_to_num(0.0).amax(-3)


def pixel_weights(frames: Tensor, context: Tensor, points: Tensor, spec: LossSpec) -> Tensor:
    """The weight of each pixel, (B, F, H, W), of mean 1 over a frame. Context is (B, 3, H, W), points (B, F, P, 2)."""
    weights = torch.ones_like(frames[:, :, 0])
    if spec.motion:
        weights = weights + spec.motion * ((frames - context.unsqueeze(1)).abs().amax(2) / FULL_MOTION).clamp(max=1)
    if spec.near:
        weights = weights + spec.near * keypoint_bumps(points, frames.shape[-2], frames.shape[-1], spec.radius)
    return weights / weights.mean((-2, -1), keepdim=True)


def reconstruction_loss(output: Tensor, target: Tensor, weights: Tensor, spec: LossSpec) -> Tensor:
    """The weighted absolute and squared error of frames (..., 3, H, W), a scalar. Weights are (..., H, W)."""
    error = output - target
    return (weights * (spec.l1 * error.abs().mean(-3) + spec.mse * error.square().mean(-3))).mean()


def discriminator_hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's hinge loss over logits."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def generator_hinge_loss(fake: Tensor) -> Tensor:
    """The generator's part of the hinge loss."""
    return -fake.mean()
