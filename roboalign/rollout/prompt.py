"""The start of a rollout: first frames, action masks and seeds, and, for a whole rollout, the actions."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Start:
    """B robots before the first predicted frame."""

    frames: Tensor
    """Context frames (B, 3, H, W) in [0, 1]."""
    action_mask: Tensor
    """(B, A): which dimensions of the action the row's robot has."""
    seeds: Tensor
    """(B,): the seed of each row's random stream."""
    horizon: int | None = None
    """Frames to predict, if known."""
    proprioception: Tensor | None = None
    """(B, P) in [-1, 1]: each robot's proprioception at its context frame, NaN where unknown; None if all is."""


@dataclass(frozen=True)
class Prompt:
    """B robots and the actions that follow."""

    frames: Tensor
    """Context frames (B, 3, H, W) in [0, 1]."""
    actions: Tensor
    """(B, F, A): action t leads to predicted frame t (from 0)."""
    action_mask: Tensor
    """(B, A): which dimensions of the action the row's robot has."""
    seeds: Tensor
    """(B,): the seed of each row's random stream."""
    proprioception: Tensor | None = None
    """(B, P) in [-1, 1]: each robot's proprioception at its context frame, NaN where unknown; None if all is."""

    @property
    def horizon(self) -> int:
        """F, the number of frames to predict."""
        return int(self.actions.shape[1])

    @property
    def start(self) -> Start:
        """The prompt without its actions."""
        return Start(self.frames, self.action_mask, self.seeds, self.horizon, self.proprioception)

    def select(self, rows: Tensor | slice) -> "Prompt":
        """The prompt of some rows."""
        measured = None if self.proprioception is None else self.proprioception[rows]
        return Prompt(self.frames[rows], self.actions[rows], self.action_mask[rows], self.seeds[rows], measured)

    def join(self, other: "Prompt") -> "Prompt":
        """The rows of this prompt and then those of the other, of the same horizon."""
        measured = None
        if self.proprioception is not None and other.proprioception is not None:
            measured = torch.cat([self.proprioception, other.proprioception])
        return Prompt(
            torch.cat([self.frames, other.frames]),
            torch.cat([self.actions, other.actions]),
            torch.cat([self.action_mask, other.action_mask]),
            torch.cat([self.seeds, other.seeds]),
            measured,
        )
