"""Behaviour cloning: a small convolutional network of image and instruction, and the policy that it makes.

The network encodes an image to heat maps of a few points, under the instruction (FiLM, arXiv 1709.07871). The points'
coordinates, and the features at them, predict the action: a spatial softmax (Levine et al., arXiv 1504.00702), which
needs few demonstrations, because an action depends on where things are.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roboalign import checkpoint
from roboalign.policies.perceived_cloning import (
    PerceivedCloningNetwork,
    build_perceived_network,
    save_perceived_network,
)
from roboalign.policies.policy import NOISE_CORRELATION, Robot, SmoothNoise
from roboalign.policies.spec import BehaviorCloningSpec, ConvolutionalCloningModelSpec
from roboalign.probe.keypoints import COUNT, FEATURES, centres, geometry
from roboalign.reward.text import PADDING, Vocabulary
from roboalign.tokenizer.layers import ResidualBlock
from roboalign.types import Float32, Json, UInt8
from roboalign.video import frames_to_video


class BehaviorCloningNetwork(nn.Module):
    """Predicts normalised actions from images and instructions."""

    def __init__(self, spec: ConvolutionalCloningModelSpec, vocabulary: Vocabulary, action_width: int) -> None:
        super().__init__()
        self.spec, self.vocabulary, self.action_width = spec, vocabulary, action_width
        fine, coarse = spec.widths
        self.words = nn.Embedding(len(vocabulary), coarse, padding_idx=PADDING)
        self.stem = nn.Conv2d(4 * 3 + 2, fine, 3, padding=1)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(coarse) for _ in range(spec.blocks))
        self.film = nn.Linear(coarse, 2 * coarse)
        self.up = nn.Conv2d(coarse, fine, 1)
        self.heat = nn.Conv2d(fine, COUNT, 3, padding=1)
        self.enter = nn.Linear(COUNT * coarse + coarse + FEATURES + coarse, spec.hidden_size)
        self.hidden = nn.Linear(spec.hidden_size, spec.hidden_size)
        self.action = nn.Linear(spec.hidden_size, action_width)

    def forward(self, images: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (B, action_width), normalised, and heat maps (B, COUNT, H / 2, W / 2) of logits, for images
        (B, 3, H, W) in [0, 1] and word numbers (B, L)."""
        known = (words != PADDING).unsqueeze(-1)
        text = (self.words(words) * known).sum(1) / known.sum(1).clamp(min=1)
        x = F.pixel_unshuffle(images - 0.5, 2)
        rows, columns = x.shape[-2:]
        v = torch.linspace(-1, 1, rows, device=x.device).view(1, 1, -1, 1).expand(len(x), 1, rows, columns)
        u = torch.linspace(-1, 1, columns, device=x.device).view(1, 1, 1, -1).expand(len(x), 1, rows, columns)
        fine = F.silu(self.stem(torch.cat([x, u, v], 1)))
        scale, offset = self.film(text)[:, :, None, None].chunk(2, 1)
        middle = self.down(fine) * (1 + scale) + offset
        for block in self.blocks:
            middle = block(middle)
        middle = F.silu(middle)
        heat: Tensor = self.heat(F.silu(fine + F.interpolate(self.up(middle), scale_factor=2.0, mode="nearest")))
        attention = F.avg_pool2d(heat, 2).flatten(2).softmax(-1)
        at_points = attention @ middle.flatten(2).transpose(1, 2)
        features = torch.cat([at_points.flatten(1), middle.mean((2, 3)), geometry(centres(heat)), text], 1)
        hidden = F.silu(self.enter(features))
        hidden = hidden + F.silu(self.hidden(hidden))
        return self.action(hidden), heat


CloningNetwork = BehaviorCloningNetwork | PerceivedCloningNetwork
"""A network of behaviour cloning, of either kind."""


class BehaviorCloningPolicy:
    """Acts by a trained network, which several policies may share."""

    def __init__(
        self,
        spec: BehaviorCloningSpec,
        network: CloningNetwork,
        robot: Robot,
        other_instruction: dict[str, str] | None = None,
    ) -> None:
        """Prepare the policy.

        Args:
            spec: What is done to the network's inputs and actions.
            network: The network, in evaluation mode.
            robot: The robot to act for.
            other_instruction: The instruction to give in place of each one, for `swap_instructions`; those that are
                not in it are left as they are.
        """
        self._spec, self._network, self._robot = spec, network, robot
        self._other = (other_instruction or {}) if spec.swap_instructions else {}
        self._words = network.vocabulary.encode([])
        self._noise: SmoothNoise | None = None

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Encode the instructions."""
        self._words = self._network.vocabulary.encode([self._other.get(text, text) for text in instructions])
        width, std = self._robot.action_width, self._spec.noise
        self._noise = SmoothNoise(seeds, width, std, NOISE_CORRELATION) if std > 0 else None

    @torch.no_grad()
    def act(self, images: UInt8) -> Float32:
        """The predicted actions of every image."""
        device = self._network.action.weight.device
        actions, _ = self._network(frames_to_video(images, device), self._words.to(device))
        values: Float32 = actions[:, : self._robot.action_width].clamp(-1, 1).cpu().numpy()
        if self._noise is not None:
            values = values + self._noise()
        return self._robot.denormalise(values)


def save_network(path: Path, network: CloningNetwork, provenance: str) -> None:
    """Write a network with its spec and its words."""
    if isinstance(network, PerceivedCloningNetwork):
        save_perceived_network(path, network, provenance)
    else:
        checkpoint.save_model(
            path, network, network.spec, provenance, words=list(network.vocabulary.known), width=network.action_width
        )


def load_network(path: Path) -> CloningNetwork:
    """Load a network of either kind, frozen and in evaluation mode. Raises CheckpointError if the file is damaged or
    of another kind."""

    def build(metadata: dict[str, Json]) -> CloningNetwork:
        if metadata["spec"]["kind"] == "perceived":
            return build_perceived_network(metadata)
        spec = checkpoint.read_spec(metadata, ConvolutionalCloningModelSpec)
        vocabulary = Vocabulary(tuple(map(str, metadata["words"])), spec.words)
        return BehaviorCloningNetwork(spec, vocabulary, int(metadata["width"]))

    return checkpoint.load_model(path, build).requires_grad_(False).eval()
