"""Training of the tokenizer: the step and its optimizers."""

import torch
from torch import Tensor, nn

from roboalign.metrics.haarpsi import HaarPsi
from roboalign.metrics.perceptual_distance import PerceptualDistance
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
from roboalign.tokenizer.spec import AdversarialSpec, TokenizerSpec
from roboalign.trained_module import Loss, TrainedModule
from roboalign.video import to_float


def is_feature_weight(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter maps features to features: all weights but the positions of cross-attention."""
    return parameter.ndim > 1 and not name.endswith("position")


class TokenizerModule(TrainedModule):
    """Trains a tokenizer on batches of clips, with a discriminator if the spec has one."""

    def __init__(self, model: Tokenizer, spec: TokenizerSpec, distance: PerceptualDistance | None = None) -> None:
        """`distance` is that of the perceptual term; without one it is 1 - HaarPSI."""
        super().__init__()
        self.model, self.spec = model, spec
        self.discriminator = Discriminator(spec.adversarial.width) if spec.adversarial else None
        # In a tuple, so that it is not a submodule: checkpoints exclude the frozen weights of a package.
        self.frozen = (distance or HaarPsi(),) if spec.loss.perceptual else ()

    def on_fit_start(self) -> None:
        for module in self.frozen:
            module.to(self.device)

    def training_step(self, batch: TokenizerSample, index: int) -> None:
        if self.discriminator is None or self.spec.adversarial is None:
            self.optimize(batch, lambda part: self.reconstruct(part)[:2])
        else:
            self._optimize_adversarially(batch, self.discriminator, self.spec.adversarial)

    def reconstruct(self, batch: TokenizerSample) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The loss without the adversarial term, the values of the curve, and the reconstructions (B, F, 3, H, W)."""
        context, frames = to_float(batch["context"]), to_float(batch["frames"])
        context, points = self.reencode_contexts(context, frames, batch["points"])
        context_output, output = self.model(context, frames)
        spec = self.spec.loss
        weights = pixel_weights(frames, context, points[:, 1:], spec)
        loss = codec = reconstruction_loss(output, frames, weights, spec)
        logs: dict[str, Tensor] = {"codec": codec, "mse": (output - frames).square().mean()}
        if spec.context:
            weights = pixel_weights(context.unsqueeze(1), context, points[:, :1], spec)
            logs["context"] = reconstruction_loss(context_output, context, weights[:, 0], spec)
            loss = loss + spec.context * logs["context"]
        for perceptual in self.frozen:
            logs["perceptual"] = perceptual(output, frames).mean()
            loss = loss + spec.perceptual * logs["perceptual"]
        logs["loss"] = loss
        return loss, logs, output

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

    def _optimize_adversarially(
        self, batch: TokenizerSample, discriminator: Discriminator, spec: AdversarialSpec
    ) -> None:
        """Take the step of the tokenizer and, from `spec.start` on, of the discriminator on the same frames."""
        tokenizer_optimizer, discriminator_optimizer = self.trained_optimizers()
        outputs: list[Tensor] = []

        def tokenizer_loss(part: TokenizerSample) -> Loss:
            loss, logs, output = self.reconstruct(part)
            if self.step >= spec.start:
                outputs.append(output.detach().flatten(0, 1))
                logs["adversarial"] = generator_hinge_loss(discriminator(output.flatten(0, 1)))
                loss = logs["loss"] = loss + spec.weight * logs["adversarial"]
            return loss, logs

        def discriminator_loss(part: TokenizerSample) -> Loss:
            real = to_float(part["frames"]).flatten(0, 1)
            loss = discriminator_hinge_loss(discriminator(real), discriminator(outputs.pop(0)))
            return loss, {"discriminator": loss}

        tokenizer_optimizer.zero_grad()
        logs = self.accumulate(batch, tokenizer_loss)
        tokenizer_optimizer.step()
        if self.step >= spec.start:
            discriminator_optimizer.zero_grad()
            logs |= self.accumulate(batch, discriminator_loss)
            discriminator_optimizer.step()
        self.log_dict(logs)

    def configure_optimizers(self) -> list[Muon]:
        spec = self.spec.training
        optimizers = [build_optimizer(self.model.named_parameters(), spec, is_hidden=is_feature_weight)]
        if self.discriminator is not None and self.spec.adversarial is not None:
            scale = self.spec.adversarial.learning_rate_scale
            optimizers.append(build_optimizer(self.discriminator.named_parameters(), spec, scale=scale))
        return optimizers
