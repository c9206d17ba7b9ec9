import numpy as np
import pytest

from roboalign.sources.readers.image_transform import transform_image
from roboalign.sources.readers.spec import CropSpec, ImageTransformSpec
from roboalign.types import UInt8


def halves(height: int, width: int) -> UInt8:
    """Left half red, right half blue."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    return image


def test_a_image_of_the_wanted_size_passes_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(transform_image(image, ImageTransformSpec(height=64, width=64)), image)


def test_halving_averages_areas() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2, ::2] = 200
    np.testing.assert_array_equal(
        transform_image(image, ImageTransformSpec(height=32, width=32)), np.full((32, 32, 3), 50, np.uint8)
    )


def test_fitting_by_cropping_cuts_the_longer_sides_evenly() -> None:
    result = transform_image(halves(64, 128), ImageTransformSpec(height=64, width=64, fit="crop"))
    np.testing.assert_array_equal(result, halves(64, 64))


def test_fitting_by_padding_keeps_everything_between_black_borders() -> None:
    result = transform_image(halves(64, 128), ImageTransformSpec(height=64, width=64, fit="pad"))
    assert not result[:16].any()
    assert not result[48:].any()
    np.testing.assert_array_equal(result[16:48], halves(32, 64))


def test_stretching_fills_the_frame() -> None:
    np.testing.assert_array_equal(
        transform_image(halves(64, 128), ImageTransformSpec(height=64, width=64, fit="stretch")), halves(64, 64)
    )


def test_a_crop_is_taken_first() -> None:
    left = ImageTransformSpec(height=32, width=32, crop=CropSpec(right=0.5))
    assert (transform_image(halves(64, 64), left)[..., 0] == 255).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 500), (500, 3), (480, 640)])
def test_any_size_becomes_the_wanted_one(fit: str, height: int, width: int) -> None:
    spec = ImageTransformSpec.model_validate({"height": 32, "width": 40, "fit": fit})
    assert transform_image(np.full((height, width, 3), 7, np.uint8), spec).shape == (32, 40, 3)
