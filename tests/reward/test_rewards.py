from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from roboalign.reward.build import RewardModels, build_reward
from roboalign.reward.dimensions import denormalise, normalise, total, weighted_total
from roboalign.reward.rewards import Rollouts, perceptual
from roboalign.reward.spec import RewardSignal
from tests.reward.reward_fakes import TEXTS, known_clips, toy_student

KINDS = ("mse", "l1", "ssim", "perceptual")


def distance():
    return lambda video, target: (video - target).abs().amax((2, 3, 4))


def build(signal, spec, **models):
    named = {"student": None, "judge": None, "gold": None} | models
    return build_reward(
        TypeAdapter(RewardSignal).validate_python(signal), spec, RewardModels(distance=distance, **named)
    )


def rollouts(videos, targets=None):
    count, frames = videos.shape[:2]
    actions = torch.zeros(count, frames - 1, 4)
    tasks = (("toy", "push"),) * count
    return Rollouts(videos, TEXTS[:count], actions, videos if targets is None else targets, tasks)


class Brightness:
    """A judge of two draws: the brightness of a clip in all absolute scores, darkness in the faithful ones."""

    def __init__(self, reward):
        self.reward = reward

    def sample(self, videos, instructions, actions=None):
        assert actions is not None
        share = videos.mean((1, 2, 3, 4))
        both = torch.stack([share, 1 - share], 1)[..., None] * torch.tensor(self.reward.max_scores)
        return torch.stack([both - 0.1, both + 0.1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_true_future_is_the_best(kind, six):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 3, 16, 16, generator=generator)
    near, far = (target + x * torch.randn(target.shape, generator=generator) for x in (0.02, 0.3))
    reward = build({"kind": kind}, six)
    truth, close, poor = (reward(rollouts(x.clamp(0, 1), target)) for x in (target, near, far))
    assert truth.shape == (2,)
    assert (truth > close).all()
    assert (close > poor).all()


@pytest.mark.parametrize(("variant", "expected"), [("absolute", 8.0), ("faithful", 2.0)])
def test_a_judges_reward_is_the_weighted_sum_of_its_mean_scores(six, variant, expected):
    reward = build({"kind": "judge", "variant": variant}, six, judge=Brightness(six))
    assert reward(rollouts(torch.full((2, 3, 3, 8, 8), 0.8))).tolist() == pytest.approx([expected] * 2, abs=1e-4)


@pytest.mark.parametrize("variant", ["absolute", "faithful"])
def test_the_students_reward_has_gradients_and_the_students_scores(six, toy_episodes, variant):
    student = toy_student(toy_episodes[:12], six).eval()
    videos, actions = known_clips(toy_episodes[:2])
    pixels = (videos.float() / 255).requires_grad_()
    found = build({"kind": "distilled", "variant": variant}, six, student=student)(
        Rollouts(pixels, TEXTS[:2], actions, pixels, (("toy", "push"),) * 2)
    )
    scores = student(videos, TEXTS[:2], actions)[:, ("absolute", "faithful").index(variant)]
    assert torch.allclose(found, scores.sum(-1), atol=1e-4)
    found.sum().backward()
    assert pixels.grad.abs().sum() > 0


def test_gold_compares_with_the_targets(six):
    def gold(tasks, clips, truths):
        same = [float(np.array_equal(clip, truth)) for clip, truth in zip(clips, truths, strict=True)]
        return np.array(same)[:, None, None] * np.array([[[1.0], [2.0]]]) * np.array(six.max_scores)

    videos = torch.full((2, 3, 3, 8, 8), 0.5)
    targets = torch.stack([videos[0], videos[1] + 0.1])
    for variant, full in (("absolute", 10), ("faithful", 20)):
        reward = build({"kind": "gold", "variant": variant}, six, gold=gold)
        assert reward(rollouts(videos, targets)).tolist() == pytest.approx([full, 0])


def test_a_sum_weighs_its_terms(six):
    terms = [{"weight": 2.0, "signal": {"kind": "l1"}}, {"weight": 0.5, "signal": {"kind": "mse"}}]
    item = rollouts(torch.full((1, 3, 3, 8, 8), 0.5), torch.full((1, 3, 3, 8, 8), 0.7))
    assert build({"kind": "sum", "terms": terms}, six)(item).tolist() == pytest.approx([-2 * 0.2 - 0.5 * 0.04])


def test_scores_normalise_and_add_up(six):
    full = np.array([six.max_scores, six.max_scores]) / 2
    assert (normalise(full, six) == 0.5).all()
    assert (denormalise(normalise(full, six), six) == full).all()
    assert (total(full, six) == 5).all()
    heavier = six.model_copy(
        update={"dimensions": {name: d.model_copy(update={"weight": 2.0}) for name, d in six.dimensions.items()}}
    )
    assert torch.equal(weighted_total(torch.from_numpy(full), heavier), torch.tensor([10.0, 10.0]).double())
    with pytest.raises(ValueError, match="different specs"):
        total(full[:, :5], six)


def test_a_perceptual_reward_may_compare_some_frames_alone():
    """The first and the last predicted frame among them; a seed shifts those between."""

    def distance(a, b):
        return (a - b).mean((2, 3, 4))

    videos = torch.arange(7.0).view(1, 7, 1, 1, 1).expand(1, 7, 3, 8, 8).square()
    given = Rollouts(videos, ("x",), torch.zeros(1, 6, 4), torch.zeros_like(videos), (("a", "b"),))
    assert perceptual(distance)(given).item() == pytest.approx(-(1 + 4 + 9 + 16 + 25 + 36) / 6)
    assert perceptual(distance, 2)(given).item() == pytest.approx(-(1 + 36) / 2)
    shifted = {perceptual(distance, 3)(replace(given, seed=seed)).item() for seed in range(20)}
    assert len(shifted) > 1
    again = replace(given, seed=3)
    assert perceptual(distance, 3)(again).item() == perceptual(distance, 3)(again).item()
