import numpy as np
import pytest
import torch
from probe_fakes import CAMERA, project

from roboalign.probe.camera import fit_camera, fit_plane, flat_lens, lens, point_depths, unproject

POINTS = np.random.default_rng(0).uniform(-0.3, 0.3, (40, 3))


def test_a_camera_is_found_from_its_points() -> None:
    camera = fit_camera(POINTS, project(POINTS))
    assert camera == pytest.approx(CAMERA, abs=1e-6)
    assert (point_depths(camera, POINTS) > 0).all()


def test_a_lens_leads_back_from_the_picture() -> None:
    camera = fit_camera(POINTS, project(POINTS))
    back = unproject(
        torch.from_numpy(lens(camera)),
        torch.from_numpy(project(POINTS)),
        torch.from_numpy(point_depths(camera, POINTS)),
    )
    assert back.numpy() == pytest.approx(POINTS, abs=1e-6)


def test_noise_of_a_tenth_of_a_pixel_moves_no_point_far() -> None:
    noisy = project(POINTS) + np.random.default_rng(1).normal(0, 0.1 / 64, (40, 2))
    camera = fit_camera(POINTS, noisy)
    rays = POINTS @ camera[:, :3].T + camera[:, 3]
    assert rays[:, :2] / rays[:, 2:] == pytest.approx(project(POINTS), abs=0.3 / 64)


@pytest.mark.parametrize("points", [POINTS[:5], POINTS * (1, 1, 0), POINTS[:1].repeat(20, 0)])
def test_points_that_determine_no_camera_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="determine"):
        fit_camera(points, project(points))


def test_the_plane_of_a_table_gives_every_depth_on_it() -> None:
    table = POINTS * (1, 1, 0) + (0, 0, 0.02)
    pixels, depths = project(table), point_depths(CAMERA, table)
    a, b, c = fit_plane(pixels, depths)
    assert 1 / (pixels @ (a, b) + c) == pytest.approx(depths, rel=1e-3)


def test_a_point_that_never_moves_has_a_plane() -> None:
    pixels = np.full((9, 2), 0.3)
    a, b, c = fit_plane(pixels, np.full(9, 0.5))
    assert 1 / (pixels @ (a, b) + c) == pytest.approx(np.full(9, 0.5))


def test_points_of_a_plane_have_a_flat_lens() -> None:
    flat, pixels = POINTS * (1, 1, 0), POINTS[:, :2] * (0.5, -0.5) + 0.5
    back = unproject(torch.from_numpy(flat_lens(flat, pixels)), torch.from_numpy(pixels), torch.ones(40))
    assert back.numpy() == pytest.approx(flat, abs=1e-6)
