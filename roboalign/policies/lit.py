"""The Lightning modules of behaviour cloning."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.distributed import BatchShard
from roboalign.optimizer import build_optimizer
from roboalign.policies.behavior_cloning import BehaviorCloningNetwork
from roboalign.policies.demonstrations import DemonstrationFrame
from roboalign.policies.perceived_cloning import PerceivedCloningNetwork, PerceivedFrame
from roboalign.probe.keypoints import inside_image, landmark_loss
from roboalign.trained_module import Loss, TrainedModule
from roboalign.training import fold_in
from roboalign.video import to_float


class BehaviorCloningModule(TrainedModule):
    """Trains on the absolute error of actions, and on the heat maps' error where points are known."""

    def __init__(self, network: BehaviorCloningNetwork) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: DemonstrationFrame, index: int) -> None:
        spec = self.network.spec
        images, points = to_float(batch["image"]), batch["points"]
        if spec.shift:
            generator = torch.Generator().manual_seed(fold_in(spec.training.seed, self.step, 3))
            images, points = shift(images, points, spec.shift, replace(self.shard, generator=generator))
        shifted: DemonstrationFrame = {**batch, "image": images, "points": points}
        dimensions = self.mean_over_shards(batch["mask"].sum())
        visible = self.mean_over_shards(inside_image(points).sum())
        self.optimize(shifted, lambda part: self.frames_loss(part, dimensions, visible))

    def frames_loss(self, batch: DemonstrationFrame, dimensions: Tensor, visible: Tensor) -> Loss:
        """The loss of frames in [0, 1], whose robots have `dimensions` action dimensions in all, and which show
        `visible` points."""
        actions, heat = self.network(batch["image"], batch["words"])
        cloning = action_error(actions, batch["action"], batch["mask"], dimensions)
        landmarks = landmark_loss(heat, batch["points"], visible)
        loss: Tensor = cloning + self.network.spec.keypoint_weight * landmarks
        return loss, {"loss": loss, "action": cloning, "points": landmarks}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network.named_parameters(), self.network.spec.training)


class PerceivedCloningModule(TrainedModule):
    """Trains a head on the absolute error of actions."""

    def __init__(self, network: PerceivedCloningNetwork) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: PerceivedFrame, index: int) -> None:
        dimensions = self.mean_over_shards(batch["mask"].sum())
        self.optimize(batch, lambda part: self.frames_loss(part, dimensions))

    def frames_loss(self, batch: PerceivedFrame, dimensions: Tensor) -> Loss:
        """The loss of frames whose robots have `dimensions` action dimensions in all."""
        actions = self.network.act(batch["features"], batch["words"])
        loss = action_error(actions, batch["action"], batch["mask"], dimensions)
        return loss, {"loss": loss, "action": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = ((name, each) for name, each in self.network.named_parameters() if each.requires_grad)
        return build_optimizer(trained, self.network.spec.training)


def action_error(actions: Tensor, targets: Tensor, mask: Tensor, dimensions: Tensor) -> Tensor:
    """The absolute error of actions (B, A) in the dimensions of `mask` (B, A), by the number of `dimensions`."""
    error: Tensor = ((actions - targets).abs() * mask).sum() / dimensions
    return error


def shift(images: Tensor, points: Tensor, limit: int, shard: BatchShard) -> tuple[Tensor, Tensor]:
    """Shift each of images (B, 3, H, W), and its points (B, K, 2), by up to `limit` pixels in each direction; borders
    are repeated. `shard` draws by how much."""
    height, width = images.shape[-2:]
    offsets = shard.randint(2 * limit + 1, (len(images), 2))
    padded = F.pad(images, (limit, limit, limit, limit), mode="replicate")
    moved = [
        image[:, top : top + height, left : left + width]
        for image, (top, left) in zip(padded, offsets.tolist(), strict=True)
    ]
    pixels = (limit - offsets.flip(1)).to(points)  # right, down
    return torch.stack(moved), points + (pixels / pixels.new_tensor([width, height])).unsqueeze(1)
