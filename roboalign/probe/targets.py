"""The losses of the readout, and the conversion of its outputs to states."""

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.probe.keypoints import landmark_loss
from roboalign.types import STATE_NAMES

OPENING, CONTACT, FORCE, PENETRATION, SUCCESS = (
    STATE_NAMES.index(name) for name in ("opening", "contact", "force", "penetration", "success")
)

MILLIMETRE = 1e-3

WEIGHTS = {
    "heat": 1.0,
    "place": 30.0,
    "opening": 0.5,
    "contact": 0.5,
    "force": 0.1,
    "penetration": 0.05,
    "success": 0.5,
}
"""Weights of the losses; `place` is in metres (our choice)."""

Outputs = tuple[Tensor, Tensor, Tensor]
"""Points (B, T, 3, 3), touch (B, T, 5) and heat maps (B * T, 3, h, w); see `EnsembleMember.forward`."""


def losses(
    outputs: Outputs, states: Tensor, pixels: Tensor, forces: Tensor, visible: Tensor | None = None
) -> dict[str, Tensor]:
    """The unweighted losses by name.

    Force and penetration are hardly visible. Their losses are absolute errors, whose optimum is the median, so rare
    contacts that a clip does not show do not dominate.

    Args:
        outputs: Outputs of an ensemble member.
        states: True states (B, T, 14).
        pixels: True image coordinates (B, T, 3, 2).
        forces: Typical forces (B,) of the tasks in newtons.
        visible: Number of points inside the image, over which `heat` is averaged; None for those of `pixels`.
    """
    points, touch, heat = outputs
    force = torch.log1p(states[..., FORCE].clamp(min=0) / forces.unsqueeze(1))
    penetration = torch.log1p(states[..., PENETRATION].clamp(min=0) / MILLIMETRE)
    return {
        "heat": landmark_loss(heat, pixels.flatten(0, 1), visible),
        "place": (points.flatten(2) - states[..., :9]).abs().mean(),
        "opening": (touch[..., 0] - states[..., OPENING]).abs().mean(),
        "contact": F.binary_cross_entropy_with_logits(touch[..., 1], states[..., CONTACT]),
        "force": (touch[..., 2] - force).abs().mean(),
        "penetration": (touch[..., 3] - penetration).abs().mean(),
        "success": F.binary_cross_entropy_with_logits(touch[..., 4], states[..., SUCCESS]),
    }


def as_state(points: Tensor, touch: Tensor, forces: Tensor) -> Tensor:
    """Convert points and touch to states (B, T, 14); contact and success are probabilities."""
    return torch.cat(
        [
            points.flatten(2),
            touch[..., :1].clamp(0, 1),
            touch[..., 1:2].sigmoid(),
            torch.expm1(touch[..., 2:3].clamp(0, 12)) * forces.view(-1, 1, 1),
            torch.expm1(touch[..., 3:4].clamp(0, 6)) * MILLIMETRE,
            touch[..., 4:].sigmoid(),
        ],
        dim=-1,
    )
