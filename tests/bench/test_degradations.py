import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from roboalign.bench.degradations import (
    absent_frames,
    alter_pixels,
    degrade,
    dilate,
    frame_order,
    moves_object,
    object_masks,
    paint_out,
    paste,
    rearranges,
    sample_teleport,
    visible_share,
)
from roboalign.bench.spec import DegradationKind

KINDS = typing.get_args(DegradationKind)
REARRANGING = [kind for kind in KINDS if rearranges(kind)]
MOVING = [kind for kind in KINDS if moves_object(kind)]
ALTERING = ["flicker", "blur", "noise"]
SWAPPING = ["swapped_instruction", "swapped_actions"]
FRAMES = arrays(np.uint8, (9, 11, 3))
MASKS = arrays(np.bool_, (9, 11))


def clip(length: int, seed: int = 0, size: int = 24):
    """A speckled table, a blue gripper at rest, and an orange object on its way to the right; with keypoints."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(60, 120, (length, size, size, 3), np.uint8)
    frames[:, 1:4, 1:4] = (20, 40, 220)
    points = np.full((length, 6), 0.1, np.float32)
    for number in range(length):
        left = 6 + round(6 * number / max(1, length - 1))
        frames[number, 12:16, left : left + 4] = (250, 140, 10)
        points[number, 2:4] = ((left + 2) / size, 14 / size)
    return frames, points


def spoil(kind, length, severity, seed):
    frames, points = clip(length)
    return degrade(kind, frames, severity, seed, clip(length, 1)[0], points)


def test_every_kind_is_of_one_family():
    assert sorted([*REARRANGING, *MOVING, *ALTERING, *SWAPPING]) == sorted(KINDS)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 20), st.floats(0.01, 1), st.integers(0, 2**31 - 1))
def test_shape_type_first_frame_and_determinism(kind, length, severity, seed):
    (frames, points), (other, _) = clip(length), clip(length, 1)
    before, where = frames.copy(), points.copy()
    spoilt = degrade(kind, frames, severity, seed, other, points)
    assert spoilt.dtype == np.uint8
    assert spoilt.shape[1:] == frames.shape[1:]
    assert 1 <= len(spoilt) <= length
    assert kind == "premature_end" or len(spoilt) == length
    assert np.array_equal(spoilt[0], frames[0])
    assert np.array_equal(frames, before)
    assert np.array_equal(points, where)
    assert np.array_equal(spoilt, degrade(kind, frames, severity, seed, other, points))


@pytest.mark.parametrize("kind", KINDS)
def test_almost_no_severity_changes_almost_nothing(kind):
    spoilt = spoil(kind, 20, 1e-3, 0)
    assert len(spoilt) == 20
    assert np.abs(spoilt.astype(int) - clip(20)[0]).mean() < 0.5


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SWAPPING])
def test_full_severity_changes_much(kind):
    frames = clip(20)[0]
    spoilt = spoil(kind, 20, 1.0, 0)
    # What moves the object touches little but it: a twenty-fourth of the picture.
    assert len(spoilt) < 20 or np.abs(spoilt.astype(int) - frames).mean() > (1 if kind in MOVING else 5)


@pytest.mark.parametrize("kind", SWAPPING)
def test_swapping_leaves_the_frames(kind):
    assert np.array_equal(spoil(kind, 9, 1.0, 0), clip(9)[0])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(REARRANGING), st.integers(1, 40), st.floats(0.01, 1), st.integers(0, 1000))
def test_orders_begin_with_the_first_frame_and_stay_in_range(kind, length, severity, seed):
    order = frame_order(kind, length, severity, seed)
    assert order[0] == 0
    assert order.min() >= 0
    assert order.max() < (2 * length if kind == "splice" else length)
    if kind == "shuffle":
        assert sorted(order) == list(range(length))
    if kind == "reversal" and length > 1:
        assert np.abs(np.diff(order)).max() <= 1


def test_orders_by_example():
    assert frame_order("premature_end", 9, 0.5, 0).tolist() == [0, 1, 2, 3, 4]
    assert frame_order("reversal", 5, 1.0, 0).tolist() == [0, 1, 2, 1, 0]
    assert frame_order("splice", 5, 0.5, 0).tolist() == [0, 1, 2, 8, 9]
    assert frame_order("delay", 9, 0.5, 0).tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4]
    assert frame_order("delay", 9, 1.0, 0).tolist() == [0] * 9
    frozen = frame_order("freeze", 9, 0.5, 0)
    assert (np.diff(frozen) == 0).sum() == 4


@pytest.mark.parametrize("kind", ALTERING)
def test_altering_grows_with_severity(kind):
    frames = clip(10)[0]
    changes = [
        np.abs(alter_pixels(kind, frames, severity, 0).astype(int) - frames).mean() for severity in (0.1, 0.4, 1.0)
    ]
    assert changes == sorted(changes)


def orange(frames):
    return ((frames[..., 0] > 200) & (frames[..., 2] < 60)).sum((1, 2))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), st.floats(0.05, 1), st.integers(0, 1000))
def test_a_removed_object_is_gone_from_the_named_frames_alone(length, severity, seed):
    frames, points = clip(length)
    spoilt = degrade("object_removed", frames, severity, seed, keypoints=points)
    gone = np.zeros(length, bool)
    gone[absent_frames(length, severity, seed)] = True
    assert gone.sum() == round(severity * (length - 1))
    assert not gone[0]
    assert (orange(spoilt)[gone] == 0).all()
    assert np.array_equal(spoilt[~gone], frames[~gone])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), st.floats(0.3, 1), st.integers(0, 1000))
def test_a_teleported_object_is_displaced_by_its_offset(length, severity, seed):
    frames, points = clip(length)
    spoilt = degrade("object_teleported", frames, severity, seed, keypoints=points)
    changed, offset = sample_teleport(points, severity, seed)
    assert np.hypot(*offset) == pytest.approx(severity * 0.45, rel=1e-5)
    assert np.array_equal(spoilt[: changed.start], frames[: changed.start])
    for number in range(*changed.indices(length)):
        u, v = (points[number, 2:4] + offset) * 24
        if 3 < u < 21 and 3 < v < 21:
            assert orange(spoilt)[number] == 16
            rows, columns = np.nonzero((spoilt[number, ..., 0] > 200) & (spoilt[number, ..., 2] < 60))
            assert abs(rows.mean() + 0.5 - v) < 1
            assert abs(columns.mean() + 0.5 - u) < 1


@pytest.mark.parametrize("kind", MOVING)
def test_an_object_that_cannot_be_found_is_not_claimed_to_move(kind):
    frames, points = clip(12)
    table = np.random.default_rng(0).integers(60, 120, frames.shape, np.uint8)

    def visible(frames, points):
        return visible_share(kind, object_masks(frames, points).mean((1, 2)), points, 0.8, 0)

    assert visible(frames, points) == 1
    assert visible(table, points) < 0.5
    assert visible(frames, points + 2) == 0


def test_a_hidden_object_is_pasted_as_it_looked():
    frames, points = clip(12)
    frames[5, 12:16] = 90  # something passes in front
    changed, _ = sample_teleport(points, 0.6, 1)
    assert changed.start <= 5
    assert orange(degrade("object_teleported", frames, 0.6, 1, keypoints=points))[5] == 16


def test_wrong_use_is_refused():
    frames, _ = clip(4)
    with pytest.raises(ValueError, match="severity"):
        degrade("blur", frames, 0.0, 0)
    with pytest.raises(ValueError, match="another clip"):
        degrade("splice", frames, 1.0, 0)
    with pytest.raises(ValueError, match="keypoints"):
        degrade("object_removed", frames, 1.0, 0)


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
    assert dilate(small).sum() == 9
    assert dilate(large).sum() == 81
