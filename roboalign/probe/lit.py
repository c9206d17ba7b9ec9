"""Training steps of the probe and of the outcome model."""

from dataclasses import replace

import torch
from torch import Tensor

from roboalign.optimizer import build_optimizer
from roboalign.probe.augment import augment
from roboalign.probe.data import Sample
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel, OutcomeSample, outcome_loss
from roboalign.probe.spec import ProbeSpec
from roboalign.probe.targets import WEIGHTS, losses
from roboalign.training import TrainedModule, fold_in
from roboalign.video import to_float


class OutcomeModule(TrainedModule):
    """Trains the outcome model on recorded episodes as a probe perceives them."""

    def __init__(self, model: OutcomeModel) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: OutcomeSample, index: int) -> Tensor:
        loss = outcome_loss(self.model(batch["states"][:, 0], batch["actions"], batch["task"]), batch["states"])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.model.named_parameters(), self.model.spec.training)


class ProbeModule(TrainedModule):
    """Trains all members at once, each on its own part of the batch, so that they differ by more than their weights."""

    def __init__(self, probe: Probe, spec: ProbeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.probe = probe.to(memory_format=torch.channels_last)

    def training_step(self, batch: Sample, index: int) -> Tensor:
        spec, scenes = self.spec, self.probe.scenes
        generator = torch.Generator().manual_seed(fold_in(spec.training.seed, self.step, 3))
        frames = augment(to_float(batch["frames"]), spec.augmentation, replace(self.shard, generator=generator))
        found: dict[str, Tensor] = {}
        for member, rows in enumerate(torch.arange(len(frames)).chunk(spec.members)):
            task = batch["task"][rows]
            outputs = self.probe(frames[rows], task, member)
            own = losses(outputs, batch["state"][rows], batch["points"][rows], scenes.forces[task])
            for name, value in own.items():
                found[name] = found.get(name, torch.zeros((), device=value.device)) + value / spec.members
        loss = torch.stack([WEIGHTS[name] * value for name, value in found.items()]).sum()
        self.log_dict({"loss": loss * 1.0} | found)
        return loss * spec.members

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.probe.named_parameters(), self.spec.training)
