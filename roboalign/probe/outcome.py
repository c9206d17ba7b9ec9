"""The outcome model: predicts states from the perceived state of a first frame and the actions.

A reward model compares a rollout with this prediction, because it does not know the true future. The outcome model is
trained on the states that the probe perceives in recorded episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from roboalign import checkpoint
from roboalign.probe.spec import OutcomeSpec
from roboalign.types import STATE_NAMES, Float32, Json

UNIT_M = 0.1
"""Unit of positions inside the model, in metres."""

MOVING = slice(0, 6)
"""Columns of a state that the model predicts as displacements: the positions of gripper and object."""

FLAGS = tuple(STATE_NAMES.index(name) for name in ("opening", "contact", "success"))
"""Columns of a state that the model predicts as values in [0, 1]."""

STARTS = 64
"""Number of samples of each episode."""


class OutcomeModel(nn.Module):
    """A recurrent network over the actions, initialised with the state of the first frame."""

    def __init__(self, spec: OutcomeSpec, tasks: int, action_width: int) -> None:
        super().__init__()
        self.spec, self.action_width = spec, action_width
        self.task = nn.Embedding(max(tasks, 1), spec.hidden_size)
        self.begin = nn.Sequential(
            nn.Linear(len(STATE_NAMES), spec.hidden_size), nn.GELU(), nn.Linear(spec.hidden_size, spec.hidden_size)
        )
        self.recur = nn.GRU(action_width + spec.hidden_size, spec.hidden_size, batch_first=True)
        self.move = nn.Linear(spec.hidden_size, 6)
        self.flags = nn.Sequential(
            nn.Linear(spec.hidden_size + 6, spec.hidden_size), nn.GELU(), nn.Linear(spec.hidden_size, len(FLAGS))
        )
        nn.init.zeros_(self.move.weight)
        nn.init.zeros_(self.move.bias)

    def forward(self, first: Tensor, actions: Tensor, tasks: Tensor) -> Tensor:
        """Predict states (B, T, 14), columns STATE_NAMES; force, penetration and goal keep their first values.

        Args:
            first: States (B, 14) of the first frames.
            actions: (B, T - 1, A) in [-1, 1].
            tasks: (B,), task numbers.
        """
        if actions.shape[1] == 0:
            return first.unsqueeze(1)
        # Positions relative to the object, without force and penetration.
        relative = first.clone()
        relative[:, :9] = (first[:, :9] - first[:, 3:6].repeat(1, 3)) / UNIT_M
        relative[:, 11:13] = 0
        hidden = self.begin(relative) + self.task(tasks)
        inputs = torch.cat([actions, hidden.unsqueeze(1).expand(-1, actions.shape[1], -1)], -1)
        features, _ = self.recur(inputs, hidden.unsqueeze(0).contiguous())
        moved = first[:, None, MOVING] + UNIT_M * self.move(features)
        goal = first[:, None, 6:9]
        offsets = torch.cat([moved[..., 3:6] - moved[..., :3], moved[..., 3:6] - goal], -1) / UNIT_M
        flags = self.flags(torch.cat([features, offsets], -1)).sigmoid()
        constant = first[:, None].expand(-1, actions.shape[1], -1)
        later = torch.cat([moved, constant[..., 6:9], flags[..., :2], constant[..., 11:13], flags[..., 2:]], -1)
        return torch.cat([first.unsqueeze(1), later], 1)


def outcome_loss(predicted: Tensor, perceived: Tensor) -> Tensor:
    """The loss of predicted states (B, T, 14), without the first frame.

    Mean absolute error of the positions in units of UNIT_M, plus the weighted cross-entropy of the flags.
    """
    states, targets = predicted[:, 1:], perceived[:, 1:]
    positions = (states[..., MOVING] - targets[..., MOVING]).abs().mean() / UNIT_M
    columns = list(FLAGS)
    flags = F.binary_cross_entropy(states[..., columns].clamp(1e-6, 1 - 1e-6), targets[..., columns].clamp(0, 1))
    return positions + 0.3 * flags


class OutcomeSample(TypedDict):
    """A segment of an episode; in a batch, each field has a leading axis."""

    states: Tensor
    """(T, 14), as the probe perceives them."""
    actions: Tensor
    """(T - 1, A) in [-1, 1]."""
    task: Tensor
    """(), number of the task in the probe."""


@dataclass(frozen=True)
class PerceivedEpisode:
    """The perceived states and the actions of a recorded episode."""

    states: Float32
    """(T, 14)."""
    actions: Float32
    """(T, A) in [-1, 1]."""
    task: int
    """Number of its task in the probe."""


class OutcomeClips(Dataset[OutcomeSample]):
    """Segments of at most `length` frames of recorded episodes; a sample is a function of its number."""

    def __init__(self, episodes: Sequence[PerceivedEpisode], length: int, seed: int) -> None:
        self.episodes, self.seed = list(episodes), seed
        self.length = min([length, *(len(episode.states) for episode in episodes)])

    def __len__(self) -> int:
        return len(self.episodes) * STARTS

    def __getitem__(self, number: int) -> OutcomeSample:
        episode = self.episodes[number % len(self.episodes)]
        rng = np.random.default_rng((self.seed, number))
        # Half of the segments begin at the first frame, as rollouts do. Segments that reach beyond the end repeat the
        # last state with zero actions.
        start = 0 if rng.random() < 0.5 else int(rng.integers(len(episode.states) - self.length // 2))
        frames = start + np.minimum(np.arange(self.length), len(episode.states) - 1 - start)
        actions = episode.actions[frames[:-1]] * (np.diff(frames) > 0)[:, None]
        return {
            "states": torch.from_numpy(episode.states[frames]),
            "actions": torch.from_numpy(actions.astype(np.float32)),
            "task": torch.tensor(episode.task),
        }


def save_outcome_model(path: Path, model: OutcomeModel, tasks: int, provenance: str) -> None:
    """Write an outcome model to a checkpoint, with its spec and sizes."""
    checkpoint.save_model(path, model, model.spec, provenance, tasks=tasks, action_width=model.action_width)


def load_outcome_model(path: Path) -> OutcomeModel:
    """Load an outcome model, frozen and in evaluation mode. Raises CheckpointError if the file is not one."""

    def build(metadata: dict[str, Json]) -> OutcomeModel:
        spec = checkpoint.read_spec(metadata, OutcomeSpec)
        return OutcomeModel(spec, int(metadata["tasks"]), int(metadata["action_width"]))

    return checkpoint.load_model(path, build).requires_grad_(False).eval()
