"""Parses `tf.train.Example` without TensorFlow: the protobuf message is read lazily, and the bytes are not trusted.

The message, by field numbers: Example {1: Features}, Features {1: map of name (1) to Feature (2)}, Feature {1:
BytesList, 2: FloatList, 3: Int64List}, each of them {1: values}. Numbers are packed, or one per field in old files.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from roboalign.sources.errors import DamagedError

BYTES, FLOATS, INTEGERS = 1, 2, 3
_NAMES = {BYTES: "byte strings", FLOATS: "floats", INTEGERS: "integers"}
_VARINT, _FIXED64, _CHUNK, _FIXED32 = 0, 1, 2, 5


def features(record: bytes) -> dict[str, memoryview]:
    """Return the undecoded features of an Example by name, as views into `record`. Raises DamagedError if it is
    invalid."""
    features_by_name: dict[str, memoryview] = {}
    for outer in _chunks(memoryview(record), 1):
        for entry in _chunks(outer, 1):
            name, value = "", memoryview(b"")
            for number, part in _fields(entry):
                if number == 1 and isinstance(part, memoryview):
                    name = text(part)
                elif number == 2 and isinstance(part, memoryview):
                    value = part
            features_by_name[name] = value
    return features_by_name


def byte_strings(feature: memoryview) -> list[memoryview]:
    """Return the byte strings of a feature, as views. Raises DamagedError if it has another type."""
    return [part for values in _lists(feature, (BYTES,)) for part in _chunks(values[1], 1)]


def numbers(feature: memoryview) -> NDArray[np.float32] | NDArray[np.int64]:
    """Return the numbers of a feature, (N,) float32 or int64. Raises DamagedError if it has another type."""
    lists = _lists(feature, (FLOATS, INTEGERS))
    if any(kind == INTEGERS for kind, _ in lists):
        return np.concatenate([_integers(values) for _, values in lists])
    return np.concatenate([np.empty(0, np.float32), *(_floats(values) for _, values in lists)])


def text(value: memoryview) -> str:
    """Decode UTF-8. Raises DamagedError."""
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise DamagedError("a text in its record is not UTF-8") from None


def _lists(feature: memoryview, wanted: tuple[int, ...]) -> list[tuple[int, memoryview]]:
    """Return the value lists of a feature, all of one type: if a feature has several types, the last one counts."""
    lists = [(kind, part) for kind, part in _fields(feature) if kind in _NAMES and isinstance(part, memoryview)]
    lists = [(kind, part) for kind, part in lists if kind == lists[-1][0]]
    if lists and lists[0][0] not in wanted:
        raise DamagedError(f"it contains {_NAMES[lists[0][0]]}, not {' or '.join(_NAMES[kind] for kind in wanted)}")
    return lists


def _floats(values: memoryview) -> NDArray[np.float32]:
    parts = [part for number, part in _fields(values) if number == 1 and isinstance(part, memoryview)]
    data = b"".join(parts)
    if len(data) % 4:
        raise DamagedError("its record is garbled: a list of floats is cut off")
    return np.frombuffer(data, "<f4").astype(np.float32)


def _integers(values: memoryview) -> NDArray[np.int64]:
    parts: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for number, part in _fields(values):
        if number == 1 and isinstance(part, int):
            parts.append(np.asarray([part], np.uint64).view(np.int64))
        elif number == 1 and not isinstance(part, int) and len(part):
            parts.append(_varints(part))
    return np.concatenate(parts)


def _varints(data: memoryview) -> NDArray[np.int64]:
    """Decode packed varints: seven bits per byte, lowest first, with the eighth bit set on all but the last byte."""
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 128)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise DamagedError("its record is garbled: a list of integers is cut off")
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise DamagedError("its record is garbled: an integer has more than ten bytes")
    shifts = 7 * (np.arange(len(raw)) - np.repeat(starts, lengths))
    bits = (raw & 127).astype(np.uint64) << shifts.astype(np.uint64)
    joined: NDArray[np.uint64] = np.bitwise_or.reduceat(bits, starts)
    return joined.view(np.int64)


def _chunks(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the length-delimited fields with one number."""
    for number, part in _fields(message):
        if number == wanted:
            if not isinstance(part, memoryview):
                raise DamagedError("its record is garbled: it is not a tf.train.Example")
            yield part


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a message as (number, integer or view). Raises DamagedError if they do not fill it."""
    offset, size = 0, len(message)
    while offset < size:
        tag, offset = _varint(message, offset)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise DamagedError("its record is garbled: a field has no number")
        if wire == _VARINT:
            value, offset = _varint(message, offset)
            yield number, value
            continue
        if wire == _CHUNK:
            length, offset = _varint(message, offset)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise DamagedError(f"its record is garbled: a field has wire type {wire}")
        if length > size - offset:
            raise DamagedError("its record is garbled: a field is longer than its message")
        yield number, message[offset : offset + length]
        offset += length


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    """Decode a varint of up to 64 bits at `offset`. Returns the value and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(message):
            raise DamagedError("its record is garbled: an integer is cut off")
        byte = message[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, offset
    raise DamagedError("its record is garbled: an integer has more than ten bytes")
