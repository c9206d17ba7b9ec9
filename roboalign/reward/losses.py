"""The loss of a reward model: a dimension-weighted Huber loss (paper), and its counterpart within groups."""

import torch
from torch import Tensor, nn

from roboalign.reward.model import RewardModel
from roboalign.reward.observation import SetBatch, observation_of
from roboalign.reward.spec import ScoringLossSpec


def set_loss(model: RewardModel, batch: SetBatch, member: int, spec: ScoringLossSpec) -> dict[str, Tensor]:
    """The losses of one member of a reward model on N sets of clips.

    `loss` is to be minimised; `within_group` and `mae`, the mean absolute error, are for curves.
    """
    target = batch["target"]
    scores = model.predict(observation_of(batch), batch["words"].flatten(0, 1), member).view(target.shape)
    weights = torch.tensor(model.reward.weights, device=target.device)
    loss, within = scoring_loss(scores, target, weights, batch["grouped"], spec.delta, spec.within_group, spec.faithful)
    return {"loss": loss, "within_group": within.detach(), "mae": (scores - target).abs().mean().detach()}


def scoring_loss(
    predicted: Tensor, targets: Tensor, weights: Tensor, grouped: Tensor, delta: float, within: float, faithful: float
) -> tuple[Tensor, Tensor]:
    """The dimension-weighted Huber loss (paper) of normalised scores, and the loss within groups.

    Args:
        predicted: (N, G, 2, D): N sets of G clips, absolute and faithful.
        targets: Alike.
        weights: (D,) of the dimensions; they need not add up to 1.
        grouped: (N,): whether the clips of a set are rollouts of one prompt.
        delta: Where the Huber loss turns from squared to linear.
        within: Weight of the loss on scores less their mean over the set, for grouped sets.
        faithful: Weight of the faithful scores; that of the absolute ones is 1.

    Returns the sum and, for curves, the second term alone.
    """
    variant = torch.tensor([1.0, faithful], device=predicted.device).view(2, 1)
    share = weights * variant / (weights.sum() * variant.sum())

    def huber(errors: Tensor) -> Tensor:
        losses = nn.functional.huber_loss(errors, torch.zeros_like(errors), reduction="none", delta=delta) / delta
        return (losses * share).sum((-1, -2)).mean(1)

    errors = predicted - targets
    centred = errors - errors.mean(1, keepdim=True)
    inner = (huber(centred) * grouped).sum() / grouped.sum().clamp(min=1)
    return huber(errors).mean() + within * inner, inner
