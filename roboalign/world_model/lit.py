"""Training the world model: one step, its logs, the optimizer, and the early snapshot."""

from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from roboalign.training import TrainedModule
from roboalign.world_model.model import WorldModel, save_world_model, token_loss


class WorldModelTraining(TrainedModule):
    """Next-token training on segments."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        spec, dynamics = self.model.spec, batch["dynamics"]
        seen = corrupt(dynamics, self.model.shape.dynamics_codes, spec.corruption)
        logits = self.model(batch["context"], seen, batch["actions"], batch["action_mask"])
        loss = token_loss(logits, dynamics, spec.change_weight)
        accuracy = (logits.detach().argmax(-1) == dynamics).float().mean()
        self.log_dict({"loss": loss.detach(), "accuracy": accuracy})
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        training = self.model.spec.training
        matrices = [p for name, p in self.model.named_parameters() if name.startswith("layers.") and p.ndim == 2]
        others = [p for name, p in self.model.named_parameters() if not (name.startswith("layers.") and p.ndim == 2)]
        groups = [
            {"params": matrices, "weight_decay": training.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.95))


def corrupt(dynamics: Tensor, codes: int, share: float) -> Tensor:
    """`dynamics` with a `share` of its codes drawn anew, so that training sees errors as rollouts make them."""
    if share == 0:
        return dynamics
    chosen = torch.rand(dynamics.shape, device=dynamics.device) < share
    return torch.where(chosen, torch.randint_like(dynamics, codes), dynamics)


class Snapshot(Callback):
    """Writes the model as it is after `step` steps to `file`.

    Before the batch of that step, not after the batch before it: a run that resumes from a scratch checkpoint of
    exactly that step then still passes here, and one that resumes later finds the file written.
    """

    def __init__(self, model: WorldModel, step: int, file: Path, provenance: str) -> None:
        self.model, self.step, self.file, self.provenance = model, step, file, provenance

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: dict[str, Tensor], index: int
    ) -> None:
        assert isinstance(module, TrainedModule)
        if module.step == self.step and trainer.is_global_zero:
            save_world_model(self.file, self.model, self.provenance)


def early_step(steps: int, fraction: float) -> int:
    """The number of training steps, below `steps`, after which the early model is kept."""
    return min(round(steps * fraction), steps - 1)
