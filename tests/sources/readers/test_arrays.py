"""`.npy` and `.npz` files come back as numpy wrote them, and their sizes are not believed."""

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers import arrays
from roboalign.sources.readers.arrays import open_npz, read_npy


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(shape: str, descr: str = "<f8") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(max_dims=3, max_side=4)), st.booleans())
def test_arrays_come_back_as_numpy_wrote_them(array: np.ndarray[Any, Any], packed: bool) -> None:
    np.testing.assert_array_equal(read_npy(io.BytesIO(npy(array))), array)
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, first=array, second=array[:0])
    with open_npz(stream) as found:
        assert list(found) == ["first", "second"]
        np.testing.assert_array_equal(found["first"], array)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header("(10000000000,)"), r"it has the shape \(10000000000,\) of float64, which is more than 536870912 bytes"),
        (header("(100000, 100000, 100000)"), "which is more than 536870912 bytes"),
        (header("(-1,)"), "it is not an .npy file, or a damaged one"),
        (header("(3,)"), "it is not an .npy file, or a damaged one"),
        (header("(3,)", "|O"), "it contains Python objects, which are not read"),
        (npy([None], allow_pickle=True), "it contains Python objects, which are not read"),
        (b"", "it is not an .npy file, or a damaged one"),
        (npy(np.zeros(3))[:-4], "it is not an .npy file, or a damaged one"),
    ],
)
def test_what_is_no_array_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(DamagedError, match=reason):
        read_npy(io.BytesIO(content))


def test_archives_do_not_unpack_to_more_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BYTES", 2**20)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.npy", "w", force_zip64=True) as member:
            member.write(header("(125000,)"))
            member.write(bytes(2**20))
        archive.writestr("small.npy", npy(np.arange(3)))
    with open_npz(stream) as found:
        np.testing.assert_array_equal(found["small"], np.arange(3))
        with pytest.raises(DamagedError, match="its array 'bomb' has 1048704 bytes, more than 1048576"):
            found["bomb"]
