"""Image coordinates of gripper, object and goal: heat maps, their expected positions, and the loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

COUNT = 3
"""Number of points of KEYPOINT_NAMES: gripper, object, goal."""

FEATURES = 12
"""Number of features that `geometry` returns."""


def centres(heat: Tensor) -> Tensor:
    """Expected positions (N, COUNT, 2), u and v in [0, 1], of heat maps (N, COUNT, h, w) of logits."""
    height, width = heat.shape[-2:]
    probabilities = heat.flatten(2).softmax(-1).view(heat.shape)
    u = (torch.arange(width, device=heat.device) + 0.5) / width
    v = (torch.arange(height, device=heat.device) + 0.5) / height
    return torch.stack([(probabilities.sum(2) * u).sum(-1), (probabilities.sum(3) * v).sum(-1)], dim=-1)


def geometry(points: Tensor) -> Tensor:
    """Features (N, FEATURES) of points (N, COUNT, 2).

    6 coordinates relative to the middle of the image, 4 components of the offsets from gripper to object and from
    object to goal, and the 2 lengths of these offsets.
    """
    offsets = points.diff(dim=1)
    lengths = (offsets.square().sum(-1) + 1e-6).sqrt()
    return torch.cat([points.flatten(1) - 0.5, 4 * offsets.flatten(1), 4 * lengths], dim=1)


def inside_image(points: Tensor) -> Tensor:
    """Which points (..., 2), u and v, are within the image, (...); false for NaN."""
    return ((points > 0) & (points < 1)).all(-1)


def landmark_loss(heat: Tensor, points: Tensor, count: Tensor | None = None) -> Tensor:
    """The loss of heat maps (N, COUNT, h, w) for true `points` (N, COUNT, 2), the mean over points inside the image.

    The cross-entropy with the four cells around the point, weighted bilinearly, plus ten times the absolute error of
    the expected position. 0 if all points are outside the image or NaN. `count` replaces the number of points inside
    as the divisor.
    """
    height, width = heat.shape[-2:]
    inside = inside_image(points)
    count = inside.sum().float() if count is None else count
    centre = torch.where(inside.unsqueeze(-1), points, 0.5)  # avoids NaN in the gradient
    rows = (1 - (centre[..., 1:] * height - 0.5 - torch.arange(height, device=heat.device)).abs()).clamp(min=0)
    columns = (1 - (centre[..., :1] * width - 0.5 - torch.arange(width, device=heat.device)).abs()).clamp(min=0)
    target = (rows.unsqueeze(-1) * columns.unsqueeze(-2)).flatten(2)
    target = target / target.sum(-1, keepdim=True).clamp(min=1e-6)
    entropy = -(target * F.log_softmax(heat.flatten(2), dim=-1)).sum(-1)
    error = (centres(heat) - centre).abs().sum(-1)
    return ((entropy + 10 * error) * inside).sum() / count.clamp(min=1e-6)
