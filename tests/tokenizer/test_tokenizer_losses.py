import pytest
import torch

from roboalign.tokenizer.losses import (
    discriminator_hinge_loss,
    generator_hinge_loss,
    keypoint_bumps,
    pixel_weights,
    reconstruction_loss,
)
from roboalign.tokenizer.spec import LossSpec


def test_near_is_a_bump_at_each_point() -> None:
    points = torch.tensor([[[0.25, 0.5], [0.75, 0.5]], [[float("nan"), float("nan")], [0.5, 0.25]]])
    bumps = keypoint_bumps(points, 16, 32, 0.05)
    assert bumps.shape == (2, 16, 32)
    assert bumps[0, 8, 8].item() == pytest.approx(bumps[0, 8, 24].item())
    assert bumps[0, 8, 8] > 0.9
    assert bumps[0, 8, 16] < 1e-3
    assert bumps[1].argmax() == 4 * 32 + 15 or bumps[1, 4, 16] == bumps[1].max()
    # One standard deviation away, rows and columns alike.
    centre = torch.tensor([[8.5 / 32, 8.5 / 16]])
    bump = keypoint_bumps(centre, 16, 32, 2 / 32)
    assert bump[8, 10].item() == pytest.approx(bump[10, 8].item()) == pytest.approx(0.60653, abs=1e-4)


def test_weights_have_mean_one_and_follow_motion_and_points() -> None:
    context = torch.zeros(1, 3, 8, 8)
    frames = torch.zeros(1, 1, 3, 8, 8)
    frames[..., :4] = 0.25
    points = torch.full((1, 1, 2, 2), float("nan"))
    weights = pixel_weights(frames, context, points, LossSpec(motion=4.0, near=9.0))
    assert weights.mean().item() == pytest.approx(1.0)
    assert (weights[..., :4] / weights[..., 4:]).unique().tolist() == pytest.approx([5.0])
    points[..., 0, :] = 0.5625  # the centre of pixel 4
    weights = pixel_weights(context[None], context, points, LossSpec(near=9.0, radius=0.01))
    assert (weights[0, 0, 4, 4] / weights[0, 0, 0, 0]).item() == pytest.approx(10.0, rel=1e-3)
    assert torch.equal(pixel_weights(frames, context, points, LossSpec()), torch.ones(1, 1, 8, 8))


def test_reconstruction_sums_both_errors() -> None:
    output, target = torch.full((2, 3, 4, 4), 0.7), torch.full((2, 3, 4, 4), 0.5)
    loss = reconstruction_loss(output, target, torch.ones(2, 4, 4), LossSpec(l1=1.0, mse=8.0))
    assert loss.item() == pytest.approx(0.2 + 8 * 0.04)


def test_hinge_losses() -> None:
    assert discriminator_hinge_loss(torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])).item() == pytest.approx(0.375)
    assert generator_hinge_loss(torch.tensor([1.0, -3.0])).item() == 1.0
