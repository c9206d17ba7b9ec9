"""`tf.train.Example` without TensorFlow: its protobuf message, read lazily and with no trust in the bytes.

The message, by field numbers: Example {1: Features}, Features {1: map of name (1) to Feature (2)}, Feature {1:
BytesList, 2: FloatList, 3: Int64List}, each of them {1: values}; numbers are packed or, by old writers, one a field.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from roboalign.sources.errors import DamagedError

BYTES, FLOATS, INTEGERS = 1, 2, 3
_NAMES = {BYTES: "byte strings", FLOATS: "floats", INTEGERS: "integers"}
_VARINT, _FIXED64, _CHUNK, _FIXED32 = 0, 1, 2, 5


def features(record: bytes) -> dict[str, memoryview]:
    """The features of an Example by name, undecoded: views into `record`. Raises DamagedError if it is none."""
    found: dict[str, memoryview] = {}
    for outer in _chunks(memoryview(record), 1):
        for entry in _chunks(outer, 1):
            name, value = "", memoryview(b"")
            for number, part in _fields(entry):
                if number == 1 and isinstance(part, memoryview):
                    name = text(part)
                elif number == 2 and isinstance(part, memoryview):
                    value = part
            found[name] = value
    return found


def byte_strings(feature: memoryview) -> list[memoryview]:
    """The byte strings of a feature, as views. Raises DamagedError if it holds something else."""
    return [part for values in _lists(feature, (BYTES,)) for part in _chunks(values[1], 1)]


def numbers(feature: memoryview) -> NDArray[np.float32] | NDArray[np.int64]:
    """The numbers of a feature, (N,) float32 or int64. Raises DamagedError if it holds something else."""
    lists = _lists(feature, (FLOATS, INTEGERS))
    if any(kind == INTEGERS for kind, _ in lists):
        return np.concatenate([_integers(values) for _, values in lists])
    return np.concatenate([np.empty(0, np.float32), *(_floats(values) for _, values in lists)])


def text(value: memoryview) -> str:
    """UTF-8 as text. Raises DamagedError."""
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise DamagedError("a text in its record is not UTF-8") from None


def _lists(feature: memoryview, wanted: tuple[int, ...]) -> list[tuple[int, memoryview]]:
    """The value lists of a feature, which all are of one kind: of several kinds the last one counts."""
    lists = [(kind, part) for kind, part in _fields(feature) if kind in _NAMES and isinstance(part, memoryview)]
    lists = [(kind, part) for kind, part in lists if kind == lists[-1][0]]
    if lists and lists[0][0] not in wanted:
        raise DamagedError(f"it holds {_NAMES[lists[0][0]]}, not {' or '.join(_NAMES[kind] for kind in wanted)}")
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
    """A packed list of varints: seven bits a byte, the lowest first, the eighth bit set on all but the last byte."""
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
    """The length-delimited fields with one number."""
    for number, part in _fields(message):
        if number == wanted:
            if not isinstance(part, memoryview):
                raise DamagedError("its record is garbled: it is not a tf.train.Example")
            yield part


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: number, and an integer or a view. Raises DamagedError if they do not fill it."""
    place, size = 0, len(message)
    while place < size:
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise DamagedError("its record is garbled: a field has no number")
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == _CHUNK:
            length, place = _varint(message, place)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise DamagedError(f"its record is garbled: a field has wire type {wire}")
        if length > size - place:
            raise DamagedError("its record is garbled: a field is longer than what holds it")
        yield number, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """An integer of 64 bits at `place`, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise DamagedError("its record is garbled: an integer is cut off")
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise DamagedError("its record is garbled: an integer has more than ten bytes")
