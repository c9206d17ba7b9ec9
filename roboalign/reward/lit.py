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
from roboalign.training import TrainedModule


class RewardModule(TrainedModule):
    """Regresses normalised scores. Each ensemble member trains on its own part of every batch of sets."""

    def __init__(self, model: RewardModel, loss: ScoringLossSpec, training: TrainingSpec) -> None:
        super().__init__()
        self.model, self.loss, self.training_spec = model, loss, training

    def training_step(self, batch: SetBatch, index: int) -> Tensor:
        members, logs = len(self.model.members), dict[str, Tensor]()
        for member, rows in enumerate(torch.arange(len(batch["target"])).chunk(members)):
            part = cast(SetBatch, {name: cast(Tensor, value)[rows] for name, value in batch.items()})
            for name, value in set_loss(self.model, part, member, self.loss).items():
                logs[name] = logs.get(name, torch.zeros((), device=value.device)) + value / members
        self.log_dict({name: value.detach() for name, value in logs.items()})
        # The sum over members, because each member's gradient should be that of training it alone.
        return logs["loss"] * members

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
        return build_optimizer(trained, self.training_spec)
