import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.bench.degradations import (
    absence,
    alter,
    degrade,
    moved_keypoints,
    moves,
    rearrange,
    rearranges,
    teleport,
    visible_change,
)
from roboalign.bench.objects import object_masks
from roboalign.bench.spec import DegradationKind

KINDS = typing.get_args(DegradationKind)
REARRANGING = [kind for kind in KINDS if rearranges(kind)]
MOVING = [kind for kind in KINDS if moves(kind)]
ALTERING = ["flicker", "blur", "noise"]
SWAPPING = ["swapped_instruction", "swapped_actions"]


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
    order = rearrange(kind, length, severity, np.random.default_rng(seed))
    assert order[0] == 0
    assert order.min() >= 0
    assert order.max() < (2 * length if kind == "splice" else length)
    if kind == "shuffle":
        assert sorted(order) == list(range(length))
    if kind == "reversal" and length > 1:
        assert np.abs(np.diff(order)).max() <= 1


def test_orders_by_example():
    rng = np.random.default_rng(0)
    assert rearrange("premature_end", 9, 0.5, rng).tolist() == [0, 1, 2, 3, 4]
    assert rearrange("reversal", 5, 1.0, rng).tolist() == [0, 1, 2, 1, 0]
    assert rearrange("splice", 5, 0.5, rng).tolist() == [0, 1, 2, 8, 9]
    assert rearrange("delay", 9, 0.5, rng).tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4]
    assert rearrange("delay", 9, 1.0, rng).tolist() == [0] * 9
    frozen = rearrange("freeze", 9, 0.5, rng)
    assert (np.diff(frozen) == 0).sum() == 4


@pytest.mark.parametrize("kind", ALTERING)
def test_altering_grows_with_severity(kind):
    frames = clip(10)[0]
    changes = [
        np.abs(alter(kind, frames, severity, np.random.default_rng(0)).astype(int) - frames).mean()
        for severity in (0.1, 0.4, 1.0)
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
    gone[absence(length, severity, np.random.default_rng(seed))] = True
    assert gone.sum() == round(severity * (length - 1))
    assert not gone[0]
    assert (orange(spoilt)[gone] == 0).all()
    assert np.array_equal(spoilt[~gone], frames[~gone])
    assert np.array_equal(np.isnan(moved_keypoints("object_removed", points, severity, seed)[:, 2]), gone)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), st.floats(0.3, 1), st.integers(0, 1000))
def test_a_teleported_object_is_where_its_keypoint_says(length, severity, seed):
    frames, points = clip(length)
    spoilt = degrade("object_teleported", frames, severity, seed, keypoints=points)
    span, way = teleport(points, severity, np.random.default_rng(seed))
    there = moved_keypoints("object_teleported", points, severity, seed)
    assert np.hypot(*way) == pytest.approx(severity * 0.45, rel=1e-5)
    assert np.array_equal(spoilt[: span.start], frames[: span.start])
    for number in range(*span.indices(length)):
        u, v = there[number, 2:4] * 24
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
        return visible_change(kind, object_masks(frames, points).mean((1, 2)), points, 0.8, 0)

    assert visible(frames, points) == 1
    assert visible(table, points) < 0.5
    assert visible(frames, points + 2) == 0


def test_a_hidden_object_is_pasted_as_it_looked():
    frames, points = clip(12)
    frames[5, 12:16] = 90  # something passes in front
    span, _ = teleport(points, 0.6, np.random.default_rng(1))
    assert span.start <= 5
    assert orange(degrade("object_teleported", frames, 0.6, 1, keypoints=points))[5] == 16


def test_wrong_use_is_refused():
    frames, _ = clip(4)
    with pytest.raises(ValueError, match="severity"):
        degrade("blur", frames, 0.0, 0)
    with pytest.raises(ValueError, match="another clip"):
        degrade("splice", frames, 1.0, 0)
    with pytest.raises(ValueError, match="keypoints"):
        degrade("object_removed", frames, 1.0, 0)
