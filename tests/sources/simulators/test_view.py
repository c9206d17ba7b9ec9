import numpy as np
import pytest

from roboalign.sources.errors import SourceError
from roboalign.sources.simulators import view
from roboalign.sources.simulators.spec import CameraSpec, ImageSpec
from roboalign.sources.simulators.view import camera_axes, project, require_egl, shrink

CAMERA = CameraSpec(lookat=(0.5, -0.2, 0.3), distance=1.2, azimuth=120, elevation=-30, fovy=50)
IMAGE = ImageSpec(height=48, width=64)


def test_the_point_looked_at_is_in_the_middle() -> None:
    np.testing.assert_allclose(project(CAMERA, IMAGE, np.array([CAMERA.lookat])), [[0.5, 0.5]], atol=1e-6)


def test_right_is_right_and_up_is_up() -> None:
    _, _, right, up = camera_axes(CAMERA)
    centre = np.asarray(CAMERA.lookat)
    (u, v), (above_u, above_v) = project(CAMERA, IMAGE, np.stack([centre + 0.1 * right, centre + 0.1 * up]))
    assert u > 0.5 > above_v
    assert v == pytest.approx(0.5, abs=1e-6)
    assert above_u == pytest.approx(0.5, abs=1e-6)
    # Square pixels: the same length covers 64/48 times as large a share of the height as of the width.
    assert (0.5 - above_v) / (u - 0.5) == pytest.approx(64 / 48, rel=1e-5)


def test_a_point_behind_the_camera_is_far_off_the_image() -> None:
    position, forward, right, _ = camera_axes(CAMERA)
    assert project(CAMERA, IMAGE, (position - forward + right)[None])[0, 0] > 10


def test_shrinking_averages_squares() -> None:
    frame = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    expected = frame.reshape(2, 2, 2, 2, 3).mean((1, 3))
    assert np.abs(shrink(frame, 2).astype(float) - expected).max() <= 0.5
    assert shrink(frame, 1) is frame


def test_a_machine_without_egl_gets_the_packages_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(view.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(SourceError, match="apt-get install libegl1"):
        require_egl()
