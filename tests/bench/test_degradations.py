import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.bench.degradations import alter, degrade, rearrange, rearranges
from roboalign.bench.spec import DegradationKind

KINDS = typing.get_args(DegradationKind)
REARRANGING = [kind for kind in KINDS if rearranges(kind)]
ALTERING = ["flicker", "blur", "noise"]


def clip(length: int, seed: int = 0, size: int = 12):
    return np.random.default_rng(seed).integers(0, 256, (length, size, size, 3), np.uint8)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 20), st.floats(0.01, 1), st.integers(0, 2**31 - 1))
def test_shape_type_first_frame_and_determinism(kind, length, severity, seed):
    frames, other = clip(length), clip(length, 1)
    before = frames.copy()
    spoilt = degrade(kind, frames, severity, seed, other)
    assert spoilt.dtype == np.uint8
    assert spoilt.shape[1:] == frames.shape[1:]
    assert 1 <= len(spoilt) <= length
    assert kind == "premature_end" or len(spoilt) == length
    assert np.array_equal(spoilt[0], frames[0])
    assert np.array_equal(frames, before)
    assert np.array_equal(spoilt, degrade(kind, frames, severity, seed, other))


@pytest.mark.parametrize("kind", KINDS)
def test_almost_no_severity_changes_almost_nothing(kind):
    frames = clip(20)
    spoilt = degrade(kind, frames, 1e-3, 0, clip(20, 1))
    assert len(spoilt) == 20
    assert np.abs(spoilt.astype(int) - frames).mean() < 0.5


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "swapped_instruction"])
def test_full_severity_changes_much(kind):
    frames = clip(20)
    spoilt = degrade(kind, frames, 1.0, 0, clip(20, 1))
    assert len(spoilt) < 20 or np.abs(spoilt.astype(int) - frames).mean() > 5


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
    frozen = rearrange("freeze", 9, 0.5, rng)
    assert (np.diff(frozen) == 0).sum() == 4


@pytest.mark.parametrize("kind", ALTERING)
def test_altering_grows_with_severity(kind):
    frames = clip(10)
    changes = [
        np.abs(alter(kind, frames, severity, np.random.default_rng(0)).astype(int) - frames).mean()
        for severity in (0.1, 0.4, 1.0)
    ]
    assert changes == sorted(changes)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="severity"):
        degrade("blur", clip(3), 0.0, 0)
    with pytest.raises(ValueError, match="another clip"):
        degrade("splice", clip(4), 1.0, 0)
