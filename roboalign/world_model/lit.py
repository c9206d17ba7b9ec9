"""Training the world model: one step, its logs, the optimizer, and the early snapshot."""

import math
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from roboalign.distributed import BatchShard
from roboalign.optimizer import build_optimizer, is_layer_matrix
from roboalign.sharded_weights import gather_on_cpu
from roboalign.trained_module import Loss, TrainedModule
from roboalign.world_model.model import WorldModel, save_world_model, token_loss, token_weights


class WorldModelTraining(TrainedModule):
    """Next-token training on segments."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model
        decay = model.spec.ema_decay
        self.average: AveragedModel | None = None
        if decay:
            self.average = AveragedModel(model, avg_fn=lambda mean, weight, _: torch.lerp(mean, weight, 1 - decay))

    def shardable_models(self) -> list[WorldModel]:
        return [self.model] if self.average is None else [self.model, self.result]

    @property
    def result(self) -> WorldModel:
        """The model to keep: the average of the weights if the spec asks for one, else the trained weights."""
        if self.average is None:
            return self.model
        averaged = self.average.module
        assert isinstance(averaged, WorldModel)
        return averaged

    def training_step(self, batch: dict[str, Tensor], index: int) -> None:
        change_weight = self.model.spec.change_weight
        total_weight = self.mean_over_shards(token_weights(batch["dynamics"], change_weight).sum())
        self.optimize(batch, lambda part: self.segment_loss(part, total_weight))
        if self.average is not None:  # before the callbacks of the batch's end, which write the scratch checkpoint
            self.average.update_parameters(self.model)

    def segment_loss(self, batch: dict[str, Tensor], total_weight: Tensor) -> Loss:
        """The loss of segments whose tokens weigh `total_weight` in all."""
        spec, shape, dynamics = self.model.spec, self.model.shape, batch["dynamics"]
        seen = corrupt(dynamics, shape.dynamics_codes, spec.corruption, self.shard)
        # The context's codes, then those of the same frame as a later frame, each in its own vocabulary. Of two
        # contexts, the first is a true frame in rollouts too.
        sizes = [(spec.contexts - 1) * shape.context_tokens, shape.context_tokens, shape.dynamics_tokens]
        initial_context, context, still = torch.split(batch["context"], sizes, 1)
        context = corrupt(context, shape.context_codes, spec.context_corruption, self.shard)
        still = corrupt(still, shape.dynamics_codes, spec.context_corruption, self.shard)
        proprioception = batch["proprioception"] if spec.proprioception is not None else None
        if proprioception is not None and spec.proprioception is not None:
            withheld = self.shard.rand((len(dynamics), 1)).to(dynamics.device) < spec.proprioception.dropout
            proprioception = proprioception.masked_fill(withheld, math.nan)
        logits = self.model(
            torch.cat([initial_context, context, still], 1),
            seen,
            batch["actions"],
            batch["action_mask"],
            proprioception,
        )
        loss = token_loss(logits, dynamics, spec.change_weight, total_weight)
        accuracy = (logits.detach().argmax(-1) == dynamics).float().mean()
        return loss, {"loss": loss, "accuracy": accuracy}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        parameters = self.model.named_parameters()
        return build_optimizer(parameters, self.model.spec.training, is_hidden=is_layer_matrix, betas=(0.9, 0.95))


def corrupt(tokens: Tensor, codes: int, share: float, shard: BatchShard) -> Tensor:
    """Replace a `share` of the codes in `tokens` (B, n) by random ones: training then sees errors like those of
    rollouts."""
    if share == 0:
        return tokens
    chosen = shard.rand(tokens.shape).to(tokens.device) < share
    return torch.where(chosen, shard.randint(codes, tokens.shape).to(tokens.device), tokens)


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
        if module.step == self.step:
            weights = gather_on_cpu(self.model.state_dict(), keep=trainer.is_global_zero)
            if trainer.is_global_zero:
                save_world_model(self.file, self.model, self.provenance, weights)


def early_step(steps: int, fraction: float) -> int:
    """The number of training steps, below `steps`, after which the early model is kept."""
    return min(round(steps * fraction), steps - 1)
