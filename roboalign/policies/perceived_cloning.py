"""Behaviour cloning on what a state probe perceives: the frozen probe reads the image, a small head is trained.

An image becomes positions of gripper, object and goal in metres, so a few thousand quick steps on precomputed features
suffice. The probe is not the gold one, which judges success.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from roboalign import checkpoint
from roboalign.policies.spec import PerceivedCloningModelSpec
from roboalign.probe.model import Probe
from roboalign.probe.spec import PerceptionSpec
from roboalign.reward.text import PADDING, Vocabulary
from roboalign.store import Corpus
from roboalign.types import STATE_NAMES, Json
from roboalign.video import frames_to_video

GEOMETRY = 14
"""Features of the perceived positions, the finger opening and contact."""
SCALE = 10.0
"""Features per metre."""


class PerceivedCloningNetwork(nn.Module):
    """Predicts normalised actions from images and instructions, through a frozen state probe."""

    def __init__(
        self, spec: PerceivedCloningModelSpec, vocabulary: Vocabulary, action_width: int, probe: Probe
    ) -> None:
        super().__init__()
        self.spec, self.vocabulary, self.action_width = spec, vocabulary, action_width
        self.probe = probe.first().requires_grad_(False).eval()
        hidden = spec.hidden_size
        self.words = nn.Embedding(len(vocabulary), hidden, padding_idx=PADDING)
        self.enter = nn.Linear(self.feature_width, hidden)
        self.hidden = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(spec.layers))
        self.action = nn.Linear(hidden, action_width)

    @property
    def feature_width(self) -> int:
        """Number of features of an image."""
        return GEOMETRY + len(self.probe.tasks)

    def train(self, mode: bool = True) -> "PerceivedCloningNetwork":
        """Set the mode of the head; the probe stays in evaluation mode."""
        super().train(mode)
        self.probe.eval()
        return self

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The features (B, feature_width) of images (B, 3, H, W) in [0, 1]; 0 if the scene is not known."""
        found = self.probe.scenes.identify(images)
        tasks = found.clamp(min=0)
        states = self.probe.perceive(images.unsqueeze(1), tasks, 0).states[:, 0]
        gripper, item, goal = states[:, :9].reshape(-1, 3, 3).unbind(1)
        home = self.probe.scenes.means[tasks][:, :3]
        touch = states[:, [STATE_NAMES.index("opening"), STATE_NAMES.index("contact")]]
        positions = SCALE * torch.cat([item - gripper, goal - item, gripper - home, goal - gripper], 1)
        scene = F.one_hot(tasks, len(self.probe.tasks)).float()
        return torch.cat([positions, touch, scene], 1) * (found >= 0).unsqueeze(1)

    def act(self, features: Tensor, words: Tensor) -> Tensor:
        """The actions (B, action_width), normalised, for features (B, feature_width) and word numbers (B, L)."""
        known = (words != PADDING).unsqueeze(-1)
        text = (self.words(words) * known).sum(1) / known.sum(1).clamp(min=1)
        x = F.silu(self.enter(features) + text)
        for layer in self.hidden:
            x = x + F.silu(layer(x))
        actions: Tensor = self.action(x)
        return actions

    def forward(self, images: Tensor, words: Tensor) -> tuple[Tensor, None]:
        """Actions (B, action_width) for images (B, 3, H, W) in [0, 1] and word numbers (B, L); and no heat maps."""
        return self.act(self.features(images), words), None


class PerceivedFrame(TypedDict):
    """A frame of a demonstration as the probe perceives it, or a batch of them."""

    features: Tensor
    """(feature_width,)."""
    words: Tensor
    """(L,), word numbers of the instruction."""
    action: Tensor
    """(A,), normalised."""
    mask: Tensor
    """(A,), which dimensions the robot has."""


class PerceivedDemonstrations(Dataset[PerceivedFrame]):
    """The frames of some demonstrations, perceived once."""

    def __init__(self, corpus: Corpus, numbers: Sequence[int], network: PerceivedCloningNetwork) -> None:
        device = network.action.weight.device
        features, words, actions, masks = [], [], [], []
        for number in numbers:
            images = frames_to_video(corpus.frames(number), device)
            features.append(network.features(images).cpu())
            words.append(network.vocabulary.encode([corpus.infos[number].instruction] * len(images)))
            actions.append(torch.from_numpy(corpus.actions(number)))
            masks.append(torch.from_numpy(corpus.action_mask(number)).expand(len(images), -1))
        empty = torch.zeros(0)
        self.features, self.words = (torch.cat(part) if part else empty for part in (features, words))
        self.actions, self.masks = (torch.cat(part) if part else empty for part in (actions, masks))

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, number: int) -> PerceivedFrame:
        return {
            "features": self.features[number],
            "words": self.words[number],
            "action": self.actions[number],
            "mask": self.masks[number],
        }


def save_perceived_network(path: Path, network: PerceivedCloningNetwork, provenance: str) -> None:
    """Write a network with its probe, its spec and its words."""
    probe = network.probe
    checkpoint.save_model(
        path, network, network.spec, provenance, words=list(network.vocabulary.known), width=network.action_width,
        eyes={"spec": probe.spec.model_dump(mode="json"), "tasks": [list(t) for t in probe.tasks],
              "size": list(probe.size)},
    )  # fmt: skip


def build_perceived_network(metadata: dict[str, Json]) -> PerceivedCloningNetwork:
    """The untrained network that a checkpoint's metadata describe."""
    eyes = metadata["eyes"]
    tasks = [(str(source), str(task)) for source, task in eyes["tasks"]]
    spec = PerceivedCloningModelSpec.model_validate_json(json.dumps(metadata["spec"]))
    probe = Probe(checkpoint.read_spec(eyes, PerceptionSpec), tasks, (int(eyes["size"][0]), int(eyes["size"][1])))
    vocabulary = Vocabulary(tuple(map(str, metadata["words"])), spec.words)
    return PerceivedCloningNetwork(spec, vocabulary, int(metadata["width"]), probe)
