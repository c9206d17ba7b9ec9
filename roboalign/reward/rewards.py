"""The rewards that alignment can maximise: functions from rollouts to one number each; higher is better."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from roboalign.metrics.video import ssim
from roboalign.probe.data import Task
from roboalign.reward.dimensions import VARIANTS, Scorer, mean_scores, weighted_total
from roboalign.reward.gold import Gold
from roboalign.reward.model import RewardModel
from roboalign.reward.spec import RewardSpec, ScoreVariant
from roboalign.reward.state_features import sample_frames
from roboalign.video import video_to_frames


@dataclass(frozen=True)
class Rollouts:
    """B rollouts of F predicted frames, with everything that a reward may read."""

    videos: Tensor
    """(B, 1 + F, 3, H, W) in [0, 1]; frame 0 is recorded."""
    instructions: tuple[str, ...]
    actions: Tensor
    """(B, F, A) in [-1, 1]."""
    targets: Tensor
    """(B, 1 + F, 3, H, W) in [0, 1], the true future of the same actions."""
    tasks: tuple[Task, ...]
    """(source, task) of each."""
    seed: int | None = None
    """Seed of the random shifts of the frames that a reward samples; None for no shifts."""

    def with_videos(self, videos: Tensor) -> "Rollouts":
        """A copy with other videos."""
        return replace(self, videos=videos)

    def select(self, rows: slice) -> "Rollouts":
        """The rollouts of some rows."""
        return Rollouts(
            self.videos[rows], self.instructions[rows], self.actions[rows], self.targets[rows], self.tasks[rows],
            self.seed,
        )  # fmt: skip


Reward = Callable[[Rollouts], Tensor]
"""Rewards (B,) of rollouts, with gradients to the videos for all kinds except `gold` and judges without gradients."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""A perceptual distance (B, T) between videos (B, T, 3, H, W)."""


def scorer_reward(scorer: Scorer, spec: RewardSpec, variant: ScoreVariant) -> Reward:
    """R = sum_k w_k g_k (paper) of a scorer's raw scores; with gradients if the scorer is a RewardModel."""
    if isinstance(scorer, RewardModel):
        return model_reward(scorer, spec, variant)

    def reward(rollouts: Rollouts) -> Tensor:
        scores = mean_scores(scorer, rollouts.videos, rollouts.instructions, rollouts.actions)
        return weighted_total(scores[:, VARIANTS[variant]], spec)

    return reward


def model_reward(model: RewardModel, spec: RewardSpec, variant: ScoreVariant) -> Reward:
    """R = sum_k w_k g_k (paper) of a reward model's raw scores, with gradients; does not read the targets."""

    def reward(rollouts: Rollouts) -> Tensor:
        generator = None if rollouts.seed is None else torch.Generator().manual_seed(rollouts.seed)
        scores = model.differentiable(rollouts.videos, rollouts.instructions, rollouts.actions, generator)
        return weighted_total(scores[:, VARIANTS[variant]], spec)

    return reward


def gold_reward(gold: Gold, spec: RewardSpec, variant: ScoreVariant) -> Reward:
    """R = sum_k w_k g_k of the gold scores, without gradients; NaN for tasks that the gold scorer does not cover."""

    def reward(rollouts: Rollouts) -> Tensor:
        clips, truths = video_to_frames(rollouts.videos), video_to_frames(rollouts.targets)
        scores = gold(rollouts.tasks, list(clips), list(truths))[:, VARIANTS[variant]]
        return weighted_total(torch.from_numpy(scores).to(rollouts.videos), spec)

    return reward


def mse(rollouts: Rollouts) -> Tensor:
    """Negative mean squared error of the predicted frames, (B,)."""
    return mse_by_frame(rollouts).mean(1)


def mse_by_frame(rollouts: Rollouts) -> Tensor:
    """Negative mean squared error of each predicted frame, (B, F)."""
    return -(rollouts.videos - rollouts.targets)[:, 1:].square().mean((2, 3, 4))


def l1(rollouts: Rollouts) -> Tensor:
    """Negative mean absolute error of the predicted frames, (B,)."""
    return l1_by_frame(rollouts).mean(1)


def l1_by_frame(rollouts: Rollouts) -> Tensor:
    """Negative mean absolute error of each predicted frame, (B, F)."""
    return -(rollouts.videos - rollouts.targets)[:, 1:].abs().mean((2, 3, 4))


def structural(rollouts: Rollouts) -> Tensor:
    """Mean structural similarity of the predicted frames, (B,)."""
    return ssim(rollouts.videos[:, 1:], rollouts.targets[:, 1:]).mean(1)


def perceptual(distance: Distance, frames: int | None = None) -> Reward:
    """Negative mean of a perceptual `distance` over `frames` evenly spaced predicted frames, or all if None."""

    def reward(rollouts: Rollouts) -> Tensor:
        count = rollouts.videos.shape[1] - 1
        generator = None if rollouts.seed is None else torch.Generator().manual_seed(rollouts.seed)
        chosen = 1 + sample_frames(torch.tensor([count]), frames or count, generator).indices[0]
        return -distance(rollouts.videos[:, chosen], rollouts.targets[:, chosen]).mean(1)

    return reward
