"""MessagePack with arrays: round trips, openpi's bytes, and damage."""

from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from roboalign.policies.msgpack_numpy import pack, unpack

ARRAYS = arrays.arrays(
    st.sampled_from([np.uint8, np.int64, np.float32, np.float64, np.bool_]), arrays.array_shapes(min_dims=0, max_side=4)
)


@given(st.dictionaries(st.text(max_size=5), ARRAYS | st.text(max_size=5) | st.integers(-9, 9), max_size=4))
def test_what_is_packed_is_unpacked(value: dict[str, Any]) -> None:
    found = unpack(pack(value))
    assert found.keys() == value.keys()
    for key, each in value.items():
        np.testing.assert_array_equal(found[key], each)
        assert getattr(found[key], "dtype", None) == getattr(each, "dtype", None)


def test_the_bytes_are_those_of_openpi() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": "<f4", b"shape": [2, 3]}
    assert msgpack.unpackb(pack({"actions": array})) == {"actions": expected}
    assert unpack(pack({"gain": np.float32(0.5)}))["gain"] == np.float32(0.5)


@given(st.binary(max_size=40))
def test_damage_is_one_kind_of_error(data: bytes) -> None:
    with suppress(ValueError):
        unpack(data)


@pytest.mark.parametrize(
    "fields", [{"dtype": "O"}, {"shape": [-1, 1]}, {"shape": [3]}, {"data": b"123"}, {"dtype": "x"}, {"shape": None}]
)
def test_arrays_that_do_not_fit_are_refused(fields: dict[str, Any]) -> None:
    good = {"data": b"\0" * 4, "dtype": "<f4", "shape": [1]}
    array = {b"__ndarray__": True, **{key.encode(): value for key, value in {**good, **fields}.items()}}
    with pytest.raises(ValueError, match="not valid MessagePack"):
        unpack(msgpack.packb({"actions": array}))


def test_objects_are_not_sent() -> None:
    with pytest.raises(TypeError, match="object"):
        pack({"a": np.array([None])})
