import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from roboalign.reward.dimensions import denormalise, normalise, total, weighted
from roboalign.reward.rewards import build_reward
from roboalign.reward.spec import RewardSignal

KINDS = ("distilled", "mse", "l1", "ssim", "perceptual")


def build(kind, spec):
    def scorer(videos, instructions):
        return videos.mean((1, 2, 3, 4)).unsqueeze(1) * torch.tensor(spec.maxima)

    def distance():
        return lambda video, target: (video - target).abs().amax((2, 3, 4))

    signal = TypeAdapter(RewardSignal).validate_python({"kind": kind})
    return build_reward(signal, spec, scorer=scorer, distance=distance)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_true_future_is_the_best(kind, six):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 3, 16, 16, generator=generator)
    near, far = (target + x * torch.randn(target.shape, generator=generator) for x in (0.02, 0.3))
    reward = build(kind, six)
    truth, close, poor = (reward(x.clamp(0, 1), ["a", "b"], target) for x in (target, near, far))
    assert truth.shape == (2,)
    assert (truth > close).all()
    assert (close > poor).all()


def test_distilled_is_the_weighted_sum(six):
    videos = torch.full((2, 3, 3, 8, 8), 0.5)
    assert torch.allclose(build("distilled", six)(videos, ["a", "b"], videos), torch.tensor([5.0, 5.0]))


def test_scores_normalise_and_add_up(six):
    full = np.array([six.maxima, six.maxima]) / 2
    assert (normalise(full, six) == 0.5).all()
    assert (denormalise(normalise(full, six), six) == full).all()
    assert (total(full, six) == 5).all()
    heavier = six.model_copy(update={"dimensions": tuple(d.model_copy(update={"weight": 2.0}) for d in six.dimensions)})
    assert torch.equal(weighted(torch.from_numpy(full), heavier), torch.tensor([10.0, 10.0]).double())
    with pytest.raises(ValueError, match="different specs"):
        total(full[:, :5], six)
