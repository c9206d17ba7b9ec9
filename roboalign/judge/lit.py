"""The judge under Lightning."""

import torch
from torch import Tensor

from roboalign.judge.model import Judge
from roboalign.optimizer import optimizer
from roboalign.reward.encoder import scoring_loss
from roboalign.reward.frames import gather, positions
from roboalign.reward.landmarks import COUNT, landmark_loss
from roboalign.training import TrainedModule, fold


class JudgeModule(TrainedModule):
    """Regresses the labels' shares of full marks, on frames shifted anew in each step."""

    weights: Tensor

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge
        self.register_buffer("weights", torch.tensor(judge.reward.weights), persistent=False)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        spec = self.judge.spec
        generator = torch.Generator().manual_seed(fold(spec.training.seed, self.step, 3))
        indices = positions(batch["length"], spec.encoder.frames, generator)
        shares, heat = self.judge.regress(batch["video"], batch["length"], indices, batch["words"])
        scoring = scoring_loss(shares, batch["target"], self.weights, spec.delta)
        points = gather(batch["keypoints"], indices).reshape(-1, COUNT, 2)
        landmarks = landmark_loss(heat, points)
        loss = scoring + spec.encoder.landmark_weight * landmarks
        self.log_dict(
            {"loss": loss, "scoring": scoring, "landmarks": landmarks, "mae": (shares - batch["target"]).abs().mean()}
        )
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer(self.judge.named_parameters(), self.judge.spec.training)
