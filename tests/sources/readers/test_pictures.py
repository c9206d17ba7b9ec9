import numpy as np
import pytest

from roboalign.sources.readers.pictures import frame
from roboalign.sources.readers.spec import CropSpec, PictureSpec
from roboalign.types import UInt8


def halves(height: int, width: int) -> UInt8:
    """Left half red, right half blue."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2, 0] = 255
    picture[:, width // 2 :, 2] = 255
    return picture


def test_a_picture_of_the_wanted_size_passes_unchanged() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(frame(picture, PictureSpec(height=64, width=64)), picture)


def test_halving_averages_areas() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[::2, ::2] = 200
    np.testing.assert_array_equal(frame(picture, PictureSpec(height=32, width=32)), np.full((32, 32, 3), 50, np.uint8))


def test_fitting_by_cropping_cuts_the_longer_sides_evenly() -> None:
    result = frame(halves(64, 128), PictureSpec(height=64, width=64, fit="crop"))
    np.testing.assert_array_equal(result, halves(64, 64))


def test_fitting_by_padding_keeps_everything_between_black_borders() -> None:
    result = frame(halves(64, 128), PictureSpec(height=64, width=64, fit="pad"))
    assert not result[:16].any()
    assert not result[48:].any()
    np.testing.assert_array_equal(result[16:48], halves(32, 64))


def test_stretching_fills_the_frame() -> None:
    np.testing.assert_array_equal(
        frame(halves(64, 128), PictureSpec(height=64, width=64, fit="stretch")), halves(64, 64)
    )


def test_a_crop_is_taken_first() -> None:
    left = PictureSpec(height=32, width=32, crop=CropSpec(right=0.5))
    assert (frame(halves(64, 64), left)[..., 0] == 255).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 500), (500, 3), (480, 640)])
def test_any_size_becomes_the_wanted_one(fit: str, height: int, width: int) -> None:
    spec = PictureSpec.model_validate({"height": 32, "width": 40, "fit": fit})
    assert frame(np.full((height, width, 3), 7, np.uint8), spec).shape == (32, 40, 3)
