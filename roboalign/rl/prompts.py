"""Prompts: segments of recorded episodes, of which the context frame, the actions and the instruction are given."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.store import Corpus
from roboalign.types import Policy


class Item(TypedDict):
    """One prompt (as a batch: each with a leading axis)."""

    frames: Tensor
    """(1 + F, 3, H, W) in [0, 1]: the context frame and the true future, which only measures and pixel rewards see."""
    actions: Tensor
    """(F, A) in [-1, 1]: action t leads to predicted frame t."""
    action_mask: Tensor
    """(A,)."""
    prompt: Tensor
    """(), the prompt's number."""


class Prompts(Dataset[Item]):
    """The segments of `horizon` + 1 frames whose context frames lie `stride` frames apart."""

    def __init__(self, corpus: Corpus, horizon: int, stride: int, policies: Sequence[Policy] | None = None) -> None:
        """Prompts of the episodes of `policies` (None: all). Raises ValueError where no episode is long enough."""
        self.corpus, self.horizon = corpus, horizon
        self.places = [
            (episode, start)
            for episode, info in enumerate(corpus.infos)
            if policies is None or info.policy in policies
            for start in range(0, info.length - horizon, stride)
        ]
        if not self.places:
            raise ValueError(
                f"no episode of {', '.join(policies or ('any policy',))} has more than rl.horizon = {horizon} frames; "
                "lower rl.horizon, record longer episodes, or add to rl.policies"
            )

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Item:
        episode, start = self.places[number]
        frames = torch.from_numpy(self.corpus.frames(episode, start, start + self.horizon + 1))
        actions = torch.from_numpy(self.corpus.actions(episode)[start : start + self.horizon])
        return {
            "frames": frames.permute(0, 3, 1, 2).float() / 255,
            "actions": actions,
            "action_mask": torch.from_numpy(self.corpus.action_mask(episode)),
            "prompt": torch.tensor(number),
        }

    def instruction(self, number: int) -> str:
        """What the robot was told."""
        return self.corpus.infos[self.places[number][0]].instruction

    def task(self, number: int) -> tuple[str, str]:
        """The source and the task of a prompt's episode."""
        info = self.corpus.infos[self.places[number][0]]
        return info.source, info.task

    def evenly(self, count: int) -> list[int]:
        """At most `count` prompt numbers, spread evenly."""
        count = min(count, len(self))
        return [index * len(self) // count for index in range(count)]
