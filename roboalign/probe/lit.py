"""The Lightning modules of the probe and of the outcome model."""

from dataclasses import replace

import torch
from torch import Tensor

from roboalign.optimizer import build_optimizer
from roboalign.probe.augment import augment
from roboalign.probe.data import Sample
from roboalign.probe.keypoints import inside_image
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel, OutcomeSample, outcome_loss
from roboalign.probe.spec import ProbeSpec
from roboalign.probe.targets import WEIGHTS, losses
from roboalign.trained_module import Loss, TrainedModule
from roboalign.training import fold_in
from roboalign.video import to_float


class OutcomeModule(TrainedModule):
    """Trains the outcome model on the states that a probe perceives in recorded episodes."""

    def __init__(self, model: OutcomeModel) -> None:
        super().__init__()
        self.model = model

    def batch_loss(self, batch: OutcomeSample) -> Loss:
        loss = outcome_loss(self.model(batch["states"][:, 0], batch["actions"], batch["task"]), batch["states"])
        return loss, {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.model.named_parameters(), self.model.spec.training)


class ProbeModule(TrainedModule):
    """Trains all members at once, each on its own part of the batch, so that they also differ in their data."""

    def __init__(self, probe: Probe, spec: ProbeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.probe = probe.to(memory_format=torch.channels_last)

    def training_step(self, batch: Sample, index: int) -> None:
        parts = inside_image(batch["points"]).float().chunk(self.spec.members)
        visible = self.mean_over_shards(torch.stack([part.sum() for part in parts]))
        self.optimize(batch, lambda part: self.clips_loss(part, visible))

    def clips_loss(self, batch: Sample, visible: Tensor) -> Loss:
        """The loss of clips of which each member has `visible` (E,) points inside the image."""
        spec, scenes = self.spec, self.probe.scenes
        generator = torch.Generator().manual_seed(fold_in(spec.training.seed, self.step, 3))
        frames = augment(to_float(batch["frames"]), spec.augmentation, replace(self.shard, generator=generator))
        means: dict[str, Tensor] = {}
        for member, rows in enumerate(torch.arange(len(frames)).chunk(spec.members)):
            task = batch["task"][rows]
            outputs = self.probe(frames[rows], task, member)
            terms = losses(outputs, batch["state"][rows], batch["points"][rows], scenes.forces[task], visible[member])
            for name, value in terms.items():
                means[name] = means.get(name, torch.zeros((), device=value.device)) + value / spec.members
        loss = torch.stack([WEIGHTS[name] * value for name, value in means.items()]).sum()
        # The sum over members, because each member's gradient should be that of training it alone.
        return loss * spec.members, {"loss": loss} | means

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.probe.named_parameters(), self.spec.training)
