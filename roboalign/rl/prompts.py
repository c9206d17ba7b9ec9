"""Prompts: the context frame, actions and instruction of segments of recorded episodes."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.store import Corpus
from roboalign.types import Policy


class Item(TypedDict):
    """One prompt; in a batch, each field has a leading axis."""

    frames: Tensor
    """(1 + F, 3, H, W) in [0, 1]: the context frame and the true future, which only measures and some rewards read."""
    actions: Tensor
    """(F, A) in [-1, 1]; action t leads to predicted frame t."""
    action_mask: Tensor
    """(A,), true for the action dimensions that the source has."""
    prompt: Tensor
    """(), number of the prompt."""


class Prompts(Dataset[Item]):
    """Segments of recorded episodes."""

    def __init__(self, corpus: Corpus, horizon: int, stride: int, policies: Sequence[Policy] | None = None) -> None:
        """List the segments.

        Args:
            corpus: The episodes.
            horizon: Predicted frames; a segment has one more.
            stride: Frames between the context frames of successive segments of an episode.
            policies: Use only episodes recorded by these policies; None for all.

        Raises:
            ValueError: No episode is long enough.
        """
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
        """The instruction of a prompt's episode."""
        return self.corpus.infos[self.places[number][0]].instruction

    def task(self, number: int) -> tuple[str, str]:
        """(source, task) of a prompt's episode."""
        info = self.corpus.infos[self.places[number][0]]
        return info.source, info.task

    def evenly(self, count: int) -> list[int]:
        """At most `count` evenly spaced prompt numbers."""
        count = min(count, len(self))
        return [index * len(self) // count for index in range(count)]
