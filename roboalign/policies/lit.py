"""The Lightning modules of behaviour cloning."""

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.optimizer import build_optimizer
from roboalign.policies.behavior_cloning import BehaviorCloningNetwork
from roboalign.policies.demonstrations import DemonstrationFrame
from roboalign.policies.perceived_cloning import PerceivedCloningNetwork, PerceivedFrame
from roboalign.probe.keypoints import landmark_loss
from roboalign.trained_module import Loss, TrainedModule
from roboalign.training import fold_in
from roboalign.video import to_float


class BehaviorCloningModule(TrainedModule):
    """Trains on the absolute error of actions, and on the heat maps' error where points are known."""

    def __init__(self, network: BehaviorCloningNetwork) -> None:
        super().__init__()
        self.network = network

    def batch_loss(self, batch: DemonstrationFrame) -> Loss:
        spec = self.network.spec
        generator = torch.Generator().manual_seed(fold_in(spec.training.seed, self.step, 3))
        images, points = to_float(batch["image"]), batch["points"]
        if spec.shift:
            images, points = shift(images, points, spec.shift, generator)
        actions, heat = self.network(images, batch["words"])
        mask = batch["mask"]
        cloning = ((actions - batch["action"]).abs() * mask).sum() / mask.sum()
        landmarks = landmark_loss(heat, points)
        loss: Tensor = cloning + spec.keypoint_weight * landmarks
        return loss, {"loss": loss, "action": cloning, "points": landmarks}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network.named_parameters(), self.network.spec.training)


class PerceivedCloningModule(TrainedModule):
    """Trains a head on the absolute error of actions."""

    def __init__(self, network: PerceivedCloningNetwork) -> None:
        super().__init__()
        self.network = network

    def batch_loss(self, batch: PerceivedFrame) -> Loss:
        actions, mask = self.network.act(batch["features"], batch["words"]), batch["mask"]
        loss: Tensor = ((actions - batch["action"]).abs() * mask).sum() / mask.sum()
        return loss, {"loss": loss, "action": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = ((name, each) for name, each in self.network.named_parameters() if each.requires_grad)
        return build_optimizer(trained, self.network.spec.training)


def shift(images: Tensor, points: Tensor, limit: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shift each of images (B, 3, H, W), and its points (B, K, 2), by up to `limit` pixels in each direction; borders
    are repeated."""
    height, width = images.shape[-2:]
    offsets = torch.randint(2 * limit + 1, (len(images), 2), generator=generator)
    padded = F.pad(images, (limit, limit, limit, limit), mode="replicate")
    moved = [
        image[:, top : top + height, left : left + width]
        for image, (top, left) in zip(padded, offsets.tolist(), strict=True)
    ]
    pixels = (limit - offsets.flip(1)).to(points)  # right, down
    return torch.stack(moved), points + (pixels / pixels.new_tensor([width, height])).unsqueeze(1)
