"""What a pickle would do is known before it is unpickled."""

import io
import pickle
import pickletools
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_calvin import npy

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers import pickled
from roboalign.sources.readers.pickle_scan import scan
from roboalign.sources.readers.pickled import read_pickled

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(PLAIN, st.integers(0, 5))
def test_plain_data_passes(value: Any, protocol: int) -> None:
    scan(pickle.dumps(value, protocol))


@given(st.integers(0, 5))
def test_what_numpy_writes_passes(protocol: int) -> None:
    scan(pickle.dumps({"a": np.arange(3), "b": [np.float32(1), np.array(["x"]), np.array([{}, None])]}, protocol))


def file_of(*opcodes: bytes) -> io.BytesIO:
    """An `.npy` file with a pickle of these opcodes."""
    content = npy([0], 2).getvalue()
    return io.BytesIO(content[: content.index(b"\n") + 1] + b"\x80\x04" + b"".join(opcodes) + b".")


NESTED = b"(t\x94" + b"".join(b"h" + bytes([n, ord("h"), n]) + b"\x86\x94" for n in range(60))
DTYPE = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (b"}" + NESTED + b"K\x01s", "a key of a dict is not a text or number"),
        (b"}(" + NESTED + b"K\x01u", "a key of a dict is not a text or number"),
        (b"(" + NESTED + b"K\x01d", "a key of a dict is not a text or number"),
        (b"\x8f(" + NESTED + b"\x90", "it has the opcode EMPTY_SET"),
        (b"(" + NESTED + b"\x91", "it has the opcode FROZENSET"),
        (DTYPE + b"}X\x01\x00\x00\x00aK\x01sb", "it has a dict where tuple should be"),
        (DTYPE + b"N}X\x01\x00\x00\x00aK\x01s\x86b", "it has a name where object should be"),
        (DTYPE + b")\x81", "it has the opcode NEWOBJ"),
        (b"(cos\nsystem\nX\x02\x00\x00\x00lso", "it has the opcode OBJ"),
        (b"(X\x02\x00\x00\x00lsios\nsystem\n", "it has the opcode INST"),
        (b"Pa\n", "it has the opcode PERSID"),
        (b"K\x01)R", "it has a atom where name should be"),
        (b"cos\nsystem\n(X\x02\x00\x00\x00lstR", r"it names os\.system, which is not allowed"),
        (b"K\x01r\xff\xff\xff\x7f", "it uses memo slot 2147483647"),
        (b"h\x05", "5"),
        (b"0", "pop from empty list"),
    ],
)
def test_what_is_not_expected_is_refused(opcodes: bytes, reason: str) -> None:
    with pytest.raises(DamagedError, match=f"^its pickle is refused: {reason}"):
        read_pickled(file_of(opcodes))


def test_no_class_of_ours_is_handed_out() -> None:
    before = {name: dict(vars(kind)) for name, kind in vars(pickled).items() if isinstance(kind, type)}
    unpickler = pickled._Unpickler(io.BytesIO(b""))
    for module, name in pickled._ADMITTED:
        found = unpickler.find_class(module, name)
        assert not isinstance(found, type)
        with pytest.raises(pickle.UnpicklingError, match="it would change a function"):
            found.__setstate__({})
        with pytest.raises(AttributeError):
            found.more = 1
    assert before == {name: dict(vars(kind)) for name, kind in vars(pickled).items() if isinstance(kind, type)}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([opcode.code.encode("latin1") for opcode in pickletools.opcodes]), max_size=12))
def test_opcodes_in_any_order_end_in_a_value_or_damage(opcodes: list[bytes]) -> None:
    rng = np.random.default_rng(len(opcodes))
    body = b"".join(code + (struct.pack("<B", rng.integers(8)) if code in b"KhqUC" else b"") for code in opcodes)
    with suppress(DamagedError):
        read_pickled(file_of(body))
