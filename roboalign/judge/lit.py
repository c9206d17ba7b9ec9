"""The regression judge under Lightning."""

from typing import cast

import torch
from torch import Tensor

from roboalign.bench.dataset import SetBatch, observation_of
from roboalign.judge.model import RegressionJudge
from roboalign.optimizer import build_optimizer
from roboalign.reward.model import scoring_loss
from roboalign.training import TrainedModule


class JudgeModule(TrainedModule):
    """Regresses the normalised labels; each member of the ensemble trains on its own part of every batch of sets."""

    weights: Tensor

    def __init__(self, judge: RegressionJudge) -> None:
        super().__init__()
        self.judge = judge
        self.register_buffer("weights", torch.tensor(judge.reward.weights), persistent=False)

    def training_step(self, batch: SetBatch, index: int) -> Tensor:
        spec, sets = self.judge.spec, len(batch["target"])
        logs: dict[str, Tensor] = {}
        for member, rows in enumerate(torch.arange(sets).chunk(spec.members)):
            part = cast(SetBatch, {name: cast(Tensor, value)[rows] for name, value in batch.items()})
            target = part["target"]
            scores = self.judge.predict(observation_of(part), part["words"].flatten(0, 1), member).view(target.shape)
            loss, within = scoring_loss(
                scores, target, self.weights, part["grouped"], spec.loss.delta, spec.loss.within_group,
                spec.loss.faithful,
            )  # fmt: skip
            error = (scores - target).abs().mean()
            for name, value in (("loss", loss), ("within_group", within), ("mae", error)):
                logs[name] = logs.get(name, torch.zeros((), device=loss.device)) + value / spec.members
        self.log_dict({name: value.detach() for name, value in logs.items()})
        # The sum of the members' losses: each has the gradient of a training of its own.
        return logs["loss"] * spec.members

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(
            ((name, p) for name, p in self.judge.named_parameters() if p.requires_grad), self.judge.spec.training
        )
