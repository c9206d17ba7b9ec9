from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rlds_files import example, field, varint

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.example import byte_strings, features, numbers

# Machines that run much else are slow now and then.
quick = settings(deadline=None, max_examples=60)
names = st.text(max_size=12)
integers = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20).map(lambda v: np.asarray(v, np.int64))
floats = st.lists(st.floats(width=32, allow_nan=False), max_size=20).map(lambda v: np.asarray(v, np.float32))
values = st.one_of(integers, floats, st.lists(st.binary(max_size=20), min_size=1, max_size=5))
examples = st.dictionaries(names, values, max_size=6)


def same(feature: memoryview, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return [bytes(each) for each in byte_strings(feature)] == wanted
    found = numbers(feature)
    return np.array_equal(found, wanted) and (len(wanted) == 0 or found.dtype == wanted.dtype)


def everything(data: bytes) -> None:
    """Read all; any error but DamagedError fails the test."""
    for feature in features(data).values():
        for read in (byte_strings, numbers):
            with suppress(DamagedError):
                read(feature)


@given(examples)
@quick
def test_what_was_written_is_read(record: dict[str, Any]) -> None:
    found = features(example(record))
    assert list(found) == list(record)
    assert all(same(found[name], record[name]) for name in record)


@given(st.binary(max_size=300))
@quick
def test_garbage_is_read_or_refused(data: bytes) -> None:
    with suppress(DamagedError):
        everything(data)


@given(examples, st.data())
@quick
def test_a_damaged_example_is_read_or_refused(record: dict[str, Any], data: st.DataObject) -> None:
    broken = bytearray(example(record))
    for _ in range(data.draw(st.integers(1, 4))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DamagedError):
        everything(bytes(broken[: data.draw(st.integers(0, len(broken)))]))


@given(st.integers(1, 200))
@quick
def test_a_cut_off_example_is_refused(cut: int) -> None:
    whole = example({"a": np.arange(300), "b": [b"xyz"]})
    with pytest.raises(DamagedError, match="garbled"):
        features(whole[:-cut])


def test_numbers_may_be_unpacked_and_fields_unknown() -> None:
    single = b"".join(varint(1 << 3) + varint(each) for each in (5, -1, 300))
    packed = field(1, varint(7) + varint(8))
    unpacked = b"".join(varint(1 << 3 | 5) + np.float32(each).tobytes() for each in (0.5, -2.0))
    unknown = varint(9 << 3) + varint(3) + field(12, b"later") + varint(13 << 3 | 1) + b"8" * 8
    entries = {b"i": field(3, single + packed), b"f": field(2, unpacked), b"n": b""}
    data = unknown + field(1, b"".join(field(1, field(2, v) + field(1, k) + unknown) for k, v in entries.items()))
    found = features(data)
    assert numbers(found["i"]).tolist() == [5, -1, 300, 7, 8]
    assert numbers(found["f"]).tolist() == [0.5, -2.0]
    assert numbers(found["n"]).tolist() == []
    assert byte_strings(found["n"]) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (varint(1 << 3) + varint(1), "not a tf.train.Example"),
        (varint(2) + b"\0", "no number"),
        (varint(1 << 3 | 3), "wire type 3"),
        (varint(1 << 3 | 2) + varint(2**62), "longer than its message"),
        (b"\xff" * 11, "more than ten bytes"),
        (field(1, field(1, field(1, b"\xff\xfe"))), "not UTF-8"),
    ],
)
def test_the_reason_of_a_refusal(data: bytes, reason: str) -> None:
    with pytest.raises(DamagedError, match=reason):
        features(data)


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        (field(1, field(1, b"x")), "byte strings, not floats or integers"),
        (field(2, field(1, b"12345")), "floats is cut off"),
        (field(3, field(1, b"\x80")), "integers is cut off"),
        (field(3, field(1, b"\xff" * 12 + b"\1")), "ten bytes"),
    ],
)
def test_the_reason_why_numbers_are_refused(feature: bytes, reason: str) -> None:
    with pytest.raises(DamagedError, match=reason):
        numbers(memoryview(feature))


@given(record=examples)
@quick
def test_it_reads_what_protobuf_writes(record: dict[str, Any]) -> None:
    descriptors = pytest.importorskip("google.protobuf.descriptor_pb2", reason="needs the protobuf package")
    message = _example_class(descriptors)()
    message.features.SetInParent()
    for name, wanted in record.items():
        feature = message.features.feature[name]
        if isinstance(wanted, list):
            feature.bytes_list.value.extend(wanted)
        elif wanted.dtype == np.float32:
            feature.float_list.SetInParent()
            feature.float_list.value.extend(wanted.tolist())
        else:
            feature.int64_list.SetInParent()
            feature.int64_list.value.extend(wanted.tolist())
    found = features(message.SerializeToString())
    assert set(found) == set(record)
    assert all(same(found[name], record[name]) for name in record)
    assert message.FromString(example(record)) == message


def _example_class(descriptors: Any) -> Any:
    """tf.train.Example, from its published definition."""
    from google.protobuf import descriptor_pool, message_factory

    file = descriptors.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    kinds = {"BytesList": 12, "FloatList": 2, "Int64List": 3}
    for name, kind in kinds.items():
        file.message_type.add(name=name).field.add(name="value", number=1, label=3, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, short) in enumerate(zip(kinds, ("bytes", "float", "int64"), strict=True), 1):
        feature.field.add(name=f"{short}_list", number=number, label=1, type=11, type_name=f".t.{name}", oneof_index=0)
    outer = file.message_type.add(name="Features")
    outer.field.add(name="feature", number=1, label=3, type=11, type_name=".t.Features.FeatureEntry")
    entry = outer.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=9)
    entry.field.add(name="value", number=2, label=1, type=11, type_name=".t.Feature")
    whole = file.message_type.add(name="Example")
    whole.field.add(name="features", number=1, label=1, type=11, type_name=".t.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))
