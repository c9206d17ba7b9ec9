"""Image coordinates of gripper, object and goal: heat maps, their centres, and the loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

COUNT = 3
"""Gripper, object, goal: the points of KEYPOINT_NAMES."""

FEATURES = 12
"""Numbers of `geometry`."""


def centres(heat: Tensor) -> Tensor:
    """Expected positions (N, COUNT, 2), u and v from 0 to 1, of heat maps (N, COUNT, h, w) of logits."""
    height, width = heat.shape[-2:]
    shares = heat.flatten(2).softmax(-1).view(heat.shape)
    u = (torch.arange(width, device=heat.device) + 0.5) / width
    v = (torch.arange(height, device=heat.device) + 0.5) / height
    return torch.stack([(shares.sum(2) * u).sum(-1), (shares.sum(3) * v).sum(-1)], dim=-1)


def geometry(points: Tensor) -> Tensor:
    """Features of points (N, COUNT, 2): positions, offsets gripper-object and object-goal, and their lengths.

    (N, FEATURES): 6 positions around the middle, 4 components and 2 lengths.
    """
    ways = points.diff(dim=1)
    lengths = (ways.square().sum(-1) + 1e-6).sqrt()
    return torch.cat([points.flatten(1) - 0.5, 4 * ways.flatten(1), 4 * lengths], dim=1)


def landmark_loss(heat: Tensor, points: Tensor) -> Tensor:
    """Mean over the visible points of the cross-entropy of heat maps (N, COUNT, h, w) with the cells around `points`
    (N, COUNT, 2), shared bilinearly, and ten times the absolute error of their centres.

    Points outside the picture and NaN do not count; 0 where none is left.
    """
    height, width = heat.shape[-2:]
    seen = ((points > 0) & (points < 1)).all(-1)
    place = torch.where(seen.unsqueeze(-1), points, 0.5)
    rows = (1 - (place[..., 1:] * height - 0.5 - torch.arange(height, device=heat.device)).abs()).clamp(min=0)
    columns = (1 - (place[..., :1] * width - 0.5 - torch.arange(width, device=heat.device)).abs()).clamp(min=0)
    target = (rows.unsqueeze(-1) * columns.unsqueeze(-2)).flatten(2)
    target = target / target.sum(-1, keepdim=True).clamp(min=1e-6)
    entropy = -(target * F.log_softmax(heat.flatten(2), dim=-1)).sum(-1)
    error = (centres(heat) - place).abs().sum(-1)
    return ((entropy + 10 * error) * seen).sum() / seen.sum().clamp(min=1)
