"""The Lightning module of reward models: the regression judge and the student."""

from typing import cast

import torch
from torch import Tensor

from roboalign.optimizer import build_optimizer
from roboalign.reward.losses import set_loss
from roboalign.reward.model import RewardModel
from roboalign.reward.observation import SetBatch
from roboalign.reward.spec import ScoringLossSpec
from roboalign.spec.training import TrainingSpec
from roboalign.trained_module import Loss, TrainedModule


class RewardModule(TrainedModule):
    """Regresses normalised scores. Each ensemble member trains on its own part of every batch of sets."""

    def __init__(self, model: RewardModel, loss: ScoringLossSpec, training: TrainingSpec) -> None:
        super().__init__()
        self.model, self.loss, self.training_spec = model, loss, training

    def training_step(self, batch: SetBatch, index: int) -> None:
        grouped = batch["grouped"].chunk(len(self.model.members))
        groups = self.mean_over_shards(torch.stack([rows.sum() for rows in grouped]))
        self.optimize(batch, lambda part: self.sets_loss(part, groups))

    def sets_loss(self, batch: SetBatch, groups: Tensor) -> Loss:
        """The loss of N sets of which each member has `groups` (E,) grouped ones."""
        members, logs = len(self.model.members), dict[str, Tensor]()
        for member, rows in enumerate(torch.arange(len(batch["target"])).chunk(members)):
            part = cast(SetBatch, {name: cast(Tensor, value)[rows] for name, value in batch.items()})
            for name, value in set_loss(self.model, part, member, self.loss, groups[member]).items():
                logs[name] = logs.get(name, torch.zeros((), device=value.device)) + value / members
        # The sum over members, because each member's gradient should be that of training it alone.
        return logs["loss"] * members, logs

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
        return build_optimizer(trained, self.training_spec)
