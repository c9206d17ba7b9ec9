"""Training of the tokenizer: the step and its optimizers."""

from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from roboalign.distributed import average_gradients
from roboalign.metrics.video import Perceptual
from roboalign.optimizer import Muon, build_optimizer
from roboalign.tokenizer.data import TokenizerSample
from roboalign.tokenizer.discriminator import Discriminator
from roboalign.tokenizer.interface import Tokenizer
from roboalign.tokenizer.losses import (
    discriminator_hinge_loss,
    generator_hinge_loss,
    pixel_weights,
    reconstruction_loss,
)
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.training import TrainedModule
from roboalign.video import to_float


def is_feature_weight(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter maps features to features: all weights but the positions of cross-attention."""
    return parameter.ndim > 1 and not name.endswith("position")


class TokenizerModule(TrainedModule):
    """Trains a tokenizer on batches of clips. With a discriminator, it takes both optimizers' steps itself."""

    def __init__(self, model: Tokenizer, spec: TokenizerSpec, distance: Perceptual | None = None) -> None:
        """`distance` is that of the perceptual term; without one it is ST-LPIPS."""
        super().__init__()
        self.model, self.spec = model, spec
        self.discriminator = Discriminator(spec.adversarial.width) if spec.adversarial else None
        self.automatic_optimization = spec.adversarial is None
        # In a tuple, so that it is not a submodule: checkpoints exclude the frozen weights of a package.
        self.frozen = (distance or Perceptual(),) if spec.loss.perceptual else ()

    def on_fit_start(self) -> None:
        for module in self.frozen:
            module.to(self.device)

    def training_step(self, batch: TokenizerSample, index: int) -> Tensor | None:
        context, frames = to_float(batch["context"]), to_float(batch["frames"])
        context, points = self.reencode_contexts(context, frames, batch["points"])
        context_output, output = self.model(context, frames)
        spec = self.spec.loss
        weights = pixel_weights(frames, context, points[:, 1:], spec)
        loss = codec = reconstruction_loss(output, frames, weights, spec)
        logs: dict[str, Any] = {"codec": codec, "mse": (output - frames).square().mean()}
        if spec.context:
            weights = pixel_weights(context.unsqueeze(1), context, points[:, :1], spec)
            logs["context"] = reconstruction_loss(context_output, context, weights[:, 0], spec)
            loss = loss + spec.context * logs["context"]
        for perceptual in self.frozen:
            logs["perceptual"] = perceptual(output, frames).mean()
            loss = loss + spec.perceptual * logs["perceptual"]
        if self.discriminator is not None:
            loss = self._adversarial(loss, frames.flatten(0, 1), output.flatten(0, 1), self.discriminator, logs)
        self.log_dict({"loss": loss} | logs)
        return loss if self.automatic_optimization else None

    def reencode_contexts(self, context: Tensor, frames: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """The first samples of the batch get the reconstruction of their first later frame as the context.

        That is what sliding-window re-encoding will hand the tokenizer: its own output. Points move along.
        """
        rows = self.shard.leading(round(self.spec.samples.reencoded * len(context) * self.shard.count))
        if rows == 0:
            return context, points
        with torch.no_grad():
            _, output = self.model(context[:rows], frames[:rows, :1])
        moved = torch.cat([points[:rows, 1:2], points[:rows, 1:]], 1)
        return torch.cat([output[:, 0], context[rows:]]), torch.cat([moved, points[rows:]])

    def _adversarial(
        self, loss: Tensor, real: Tensor, fake: Tensor, discriminator: Discriminator, logs: dict[str, Any]
    ) -> Tensor:
        """Take the step of the tokenizer and, from `start` on, of the discriminator; the tokenizer's whole loss."""
        spec, optimizers = self.spec.adversarial, self.optimizers()
        assert spec is not None
        assert isinstance(optimizers, list)
        if self.step >= spec.start:
            logs["adversarial"] = generator_hinge_loss(discriminator(fake))
            loss = loss + spec.weight * logs["adversarial"]
        self._optimize(optimizers[0], loss)
        if self.step >= spec.start:
            logs["discriminator"] = discriminator_hinge_loss(discriminator(real), discriminator(fake.detach()))
            self._optimize(optimizers[1], logs["discriminator"])
        return loss

    def _optimize(self, optimizer: LightningOptimizer, loss: Tensor) -> None:
        """One step of one optimizer."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
        if self.spec.training.gradient_clip:
            self.clip_gradients(optimizer.optimizer, self.spec.training.gradient_clip, "norm")
        optimizer.step()

    def configure_optimizers(self) -> list[Muon]:
        spec = self.spec.training
        optimizers = [build_optimizer(self.model.named_parameters(), spec, is_hidden=is_feature_weight)]
        if self.discriminator is not None and self.spec.adversarial is not None:
            scale = self.spec.adversarial.learning_rate_scale
            optimizers.append(build_optimizer(self.discriminator.named_parameters(), spec, scale=scale))
        return optimizers
