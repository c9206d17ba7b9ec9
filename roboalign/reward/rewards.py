"""The rewards that alignment can maximise, as functions of generated clips; one number a clip, higher is better."""

from collections.abc import Callable, Sequence
from typing import assert_never

import torch
from torch import Tensor

from roboalign.evaluation.video import ssim
from roboalign.reward.dimensions import Scorer, weighted
from roboalign.reward.spec import (
    DistilledSignal,
    L1Signal,
    MseSignal,
    PerceptualSignal,
    RewardSignal,
    RewardSpec,
    SsimSignal,
)

Reward = Callable[[Tensor, Sequence[str], Tensor], Tensor]
"""(videos (B, T, 3, H, W), instructions, targets (B, T, 3, H, W)) -> (B,). Targets are the true futures of the same
actions; frame 0 of both is the initial frame."""


def distilled(scorer: Scorer, spec: RewardSpec) -> Reward:
    """R = sum_k w_k g_k of the student's raw scores (paper); the targets are not looked at."""

    def reward(videos: Tensor, instructions: Sequence[str], targets: Tensor) -> Tensor:
        return weighted(scorer(videos, instructions), spec)

    return reward


def mse(videos: Tensor, instructions: Sequence[str], targets: Tensor) -> Tensor:
    """Minus the mean squared error."""
    return -(videos - targets).square().mean((1, 2, 3, 4))


def l1(videos: Tensor, instructions: Sequence[str], targets: Tensor) -> Tensor:
    """Minus the mean absolute error."""
    return -(videos - targets).abs().mean((1, 2, 3, 4))


def structural(videos: Tensor, instructions: Sequence[str], targets: Tensor) -> Tensor:
    """The mean structural similarity of the frames."""
    return ssim(videos, targets).mean(1)


def perceptual(distance: Callable[[Tensor, Tensor], Tensor]) -> Reward:
    """Minus the mean over frames of a perceptual `distance`, which gives (B, T)."""

    def reward(videos: Tensor, instructions: Sequence[str], targets: Tensor) -> Tensor:
        return -distance(videos, targets).mean(1)

    return reward


def build_reward(
    signal: RewardSignal,
    spec: RewardSpec,
    *,
    scorer: Scorer,
    distance: Callable[[], Callable[[Tensor, Tensor], Tensor]],
) -> Reward:
    """The reward of a signal, without gradients. `distance` makes the perceptual distance, only if it is needed."""
    match signal:
        case DistilledSignal():
            reward = distilled(scorer, spec)
        case MseSignal():
            reward = mse
        case L1Signal():
            reward = l1
        case SsimSignal():
            reward = structural
        case PerceptualSignal():
            reward = perceptual(distance())
        case _:
            assert_never(signal)
    return torch.no_grad()(reward)
