"""The loss of reward models: a dimension-weighted Huber loss (paper), and the same loss within groups."""

import torch
from torch import Tensor, nn

from roboalign.reward.model import RewardModel
from roboalign.reward.observation import SetBatch, observation_of
from roboalign.reward.spec import ScoringLossSpec


def set_loss(
    model: RewardModel, batch: SetBatch, member: int, spec: ScoringLossSpec, groups: Tensor | None = None
) -> dict[str, Tensor]:
    """Losses of one ensemble member on N sets of clips.

    Args:
        model: The reward model.
        batch: The sets.
        member: Number of the ensemble member.
        spec: Weights of the terms.
        groups: See `scoring_loss`.

    Returns:
        `loss`, the training loss; `within_group`, its term within groups, and `mae`, the mean absolute error of
        normalised scores, for curves.
    """
    target = batch["target"]
    scores = model.predict(observation_of(batch), batch["words"].flatten(0, 1), member).view(target.shape)
    weights = torch.tensor(model.reward.weights, device=target.device)
    loss, within = scoring_loss(
        scores, target, weights, batch["grouped"], spec.delta, spec.within_group, spec.faithful, groups
    )
    return {"loss": loss, "within_group": within.detach(), "mae": (scores - target).abs().mean().detach()}


def scoring_loss(
    predicted: Tensor,
    targets: Tensor,
    weights: Tensor,
    grouped: Tensor,
    delta: float,
    within: float,
    faithful: float,
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The dimension-weighted Huber loss (paper) of normalised scores, plus the loss within groups.

    Args:
        predicted: Normalised scores (N, G, 2, D) of N sets of G clips, absolute and faithful.
        targets: Same shape.
        weights: (D,), of the dimensions; they need not sum to 1.
        grouped: (N,), whether the clips of a set are rollouts of one prompt.
        delta: Error at which the Huber loss changes from squared to linear.
        within: Weight of the loss on scores minus their mean over the set, for grouped sets.
        faithful: Weight of the faithful scores; that of the absolute scores is 1.
        groups: Number of grouped sets, over which the loss within groups is averaged; None for those of `grouped`.

    Returns:
        The sum of both terms, and the second term alone, for curves.
    """
    variant = torch.tensor([1.0, faithful], device=predicted.device).view(2, 1)
    fractions = weights * variant / (weights.sum() * variant.sum())

    def huber(errors: Tensor) -> Tensor:
        losses = nn.functional.huber_loss(errors, torch.zeros_like(errors), reduction="none", delta=delta) / delta
        return (losses * fractions).sum((-1, -2)).mean(1)

    errors = predicted - targets
    centred = errors - errors.mean(1, keepdim=True)
    count = grouped.sum() if groups is None else groups
    inner = (huber(centred) * grouped).sum() / count.clamp(min=1e-6)  # without groups 0
    return huber(errors).mean() + within * inner, inner
