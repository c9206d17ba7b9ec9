import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from roboalign.bench.objects import grown, object_masks, paint_out, paste

FRAMES = arrays(np.uint8, (9, 11, 3))
MASKS = arrays(np.bool_, (9, 11))


@settings(max_examples=80, deadline=None)
@given(FRAMES, MASKS)
def test_painting_out_keeps_the_rest_and_stays_between_the_surroundings(frame, mask):
    painted = paint_out(frame, mask)
    assert np.array_equal(painted[~mask], frame[~mask])
    if not mask.all():
        for number in range(1, ndimage.label(mask)[1] + 1):
            part = ndimage.label(mask)[0] == number
            around = ndimage.binary_dilation(part) & ~part
            assert (painted[part] >= frame[around].min(0)).all()
            assert (painted[part] <= frame[around].max(0)).all()


def test_painting_out_continues_a_slope():
    frame = np.repeat(np.arange(0, 110, 10, dtype=np.uint8)[None, :, None], 9, 0).repeat(3, 2)
    mask = np.zeros((9, 11), bool)
    mask[3:6, 4:7] = True
    assert np.abs(paint_out(frame, mask).astype(int) - frame).max() <= 1


@settings(max_examples=60, deadline=None)
@given(FRAMES, FRAMES, MASKS, st.integers(-12, 12), st.integers(-12, 12))
def test_pasting_moves_the_masked_pixels_alone(frame, patch, mask, down, right):
    pasted = paste(frame, patch, mask, down, right)
    moved = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        if 0 <= row + down < 9 and 0 <= column + right < 11:
            moved[row + down, column + right] = True
            assert np.array_equal(pasted[row + down, column + right], patch[row, column])
    assert np.array_equal(pasted[~moved], frame[~moved])


def scene(colour=(240, 140, 10)):
    frames = np.full((4, 64, 64, 3), (90, 80, 75), np.uint8)
    frames[:, 30:36, 20:28] = colour
    frames[:, 2:10, 2:6] = (20, 40, 220)
    points = np.tile(np.array([0.06, 0.09, 24 / 64, 33 / 64, 0.9, 0.9], np.float32), (4, 1))
    return frames, points


def test_an_object_is_found_in_light_and_shade():
    frames, points = scene()
    frames[:, 33:36, 20:28] = (150, 80, 5)
    found = object_masks(frames, points)
    assert found.sum((1, 2)).tolist() == [48] * 4
    assert found[:, 30:36, 20:28].all()


def test_a_gripper_on_the_object_is_not_taken_for_it():
    frames, points = scene()
    frames[2:, 30:36, 22:25] = (20, 40, 220)
    points[2:, 0:2] = points[2:, 2:4]
    found = object_masks(frames, points)
    assert found[2].sum() == 48 - 18
    assert not found[2, 30:36, 22:25].any()


@pytest.mark.parametrize("places", [np.nan, 1.7, -0.2])
def test_nothing_is_found_outside_the_picture(places):
    frames, points = scene()
    points[:, 2:4] = places
    assert not object_masks(frames, points).any()


def test_a_background_is_not_an_object():
    frames, points = scene(colour=(90, 80, 75))
    assert not object_masks(frames, points).any()


def test_a_rim_grows_with_the_picture():
    small, large = np.zeros((64, 64), bool), np.zeros((256, 256), bool)
    small[32, 32], large[128, 128] = True, True
    assert grown(small).sum() == 9
    assert grown(large).sum() == 81
