import math

import pytest
import torch

from roboalign.probe.keypoints import COUNT, FEATURES, centres, geometry, landmark_loss


def peaked(u: float, v: float, size: int = 8) -> torch.Tensor:
    heat = torch.full((1, COUNT, size, size), -30.0)
    heat[:, :, int(v * size), int(u * size)] = 30.0
    return heat


def test_centres_are_where_the_heat_is():
    expected = torch.tensor([(6 + 0.5) / 8, (1 + 0.5) / 8])
    assert torch.allclose(centres(peaked(0.8, 0.2))[0, 0], expected)
    assert torch.allclose(centres(torch.zeros(1, COUNT, 8, 8)), torch.full((1, COUNT, 2), 0.5))


def test_the_right_map_has_the_least_loss():
    points = torch.tensor([[6.5 / 8, 1.5 / 8]]).expand(1, COUNT, 2)
    right, near, far = (landmark_loss(peaked(*at), points) for at in ((0.8, 0.2), (0.7, 0.2), (0.1, 0.9)))
    assert right == pytest.approx(0, abs=1e-5)
    assert right < near < far


def test_unknown_points_teach_nothing():
    heat = torch.randn(2, COUNT, 8, 8, requires_grad=True)
    points = torch.full((2, COUNT, 2), math.nan)
    points[0, 0] = torch.tensor([1.4, 0.5])  # outside the picture
    loss = landmark_loss(heat, points)
    loss.backward()
    assert loss == 0
    assert (heat.grad == 0).all()


def test_geometry_knows_the_way_to_the_goal():
    points = torch.tensor([[[0.2, 0.2], [0.2, 0.5], [0.5, 0.5]]])
    values = geometry(points)[0]
    assert values.shape == (FEATURES,)
    assert values[-2:] == pytest.approx([1.2, 1.2], abs=1e-3)
