"""The student under Lightning."""

import torch
from torch import Tensor

from roboalign.optimizer import build_optimizer
from roboalign.student.distill import DistillationClips, distillation_loss
from roboalign.student.model import Student
from roboalign.training import TrainedModule


class StudentModule(TrainedModule):
    """Regresses the judge's normalised scores, and what the judge's state probe perceives."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        clips = DistillationClips(**{name: value.flatten(0, 1) for name, value in batch.items() if name != "grouped"})
        logs = distillation_loss(self.student, clips, batch["grouped"])
        self.log_dict({name: value.detach() for name, value in logs.items()})
        return logs["loss"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.student.named_parameters(), self.student.spec.training)
