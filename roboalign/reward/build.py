"""From the spec of a reward to the function of rollouts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import torch

from roboalign.reward.dimensions import Scorer
from roboalign.reward.gold import Gold
from roboalign.reward.model import RewardModel
from roboalign.reward.rewards import (
    Distance,
    Reward,
    gold_reward,
    l1,
    model_reward,
    mse,
    perceptual,
    scorer_reward,
    structural,
)
from roboalign.reward.spec import (
    DistilledSignal,
    GoldSignal,
    JudgeSignal,
    L1Signal,
    MseSignal,
    PerceptualSignal,
    RewardSignal,
    RewardSpec,
    SsimSignal,
    SumSignal,
)


@dataclass(frozen=True)
class RewardModels:
    """The models that learned rewards use; a signal needs only those that it names."""

    student: RewardModel
    judge: Scorer
    gold: Gold
    distance: Callable[[], Distance]
    """Makes the perceptual distance."""


def build_reward(signal: RewardSignal, spec: RewardSpec, models: RewardModels) -> Reward:
    """The reward of a signal."""
    match signal:
        case DistilledSignal():
            return model_reward(models.student, spec, signal.variant)
        case JudgeSignal():
            return scorer_reward(models.judge, spec, signal.variant)
        case GoldSignal():
            return gold_reward(models.gold, spec, signal.variant)
        case MseSignal():
            return mse
        case L1Signal():
            return l1
        case SsimSignal():
            return structural
        case PerceptualSignal():
            return perceptual(models.distance(), signal.frames)
        case SumSignal():
            terms: Sequence[tuple[float, Reward]] = [
                (term.weight, build_reward(term.signal, spec, models)) for term in signal.terms
            ]
            return lambda rollouts: torch.stack([weight * term(rollouts) for weight, term in terms]).sum(0)
        case _:
            assert_never(signal)
