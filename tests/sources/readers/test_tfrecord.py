import io
import struct
import tracemalloc
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from rlds_files import framed

from roboalign.sources.readers.tfrecord import Fault, masked_crc, records

THREE = [b"first", b"", b"third" * 100]


def read(data: bytes) -> list[bytes | Fault]:
    return list(records(io.BytesIO(data)))


def test_the_checksum_is_the_published_one() -> None:
    # CRC-32C of "123456789" is 0xE3069283 (RFC 3720); TFRecord rotates it right by 15 bits and adds a constant.
    assert masked_crc(b"123456789") == (((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) % 2**32
    # The empty record as TensorFlow writes it.
    assert read(bytes.fromhex("000000000000000029039807d8ea82a2")) == [b""]


def test_records_come_back() -> None:
    assert read(b"".join(map(framed, THREE))) == THREE
    assert read(b"") == []


def test_a_truncated_file_loses_its_last_record_alone() -> None:
    whole = b"".join(map(framed, THREE))
    for cut in range(1, len(framed(THREE[2]))):
        *good, last = read(whole[:-cut])
        assert good == THREE[:2]
        assert isinstance(last, Fault)
        assert last.rest
        assert "truncated" in last.reason


def test_a_wrong_byte_is_found_wherever_it_is() -> None:
    whole = b"".join(map(framed, THREE))
    first = len(framed(THREE[0]))
    for place in range(first):
        broken = bytearray(whole)
        broken[place] ^= 4
        found = read(bytes(broken))
        assert isinstance(found[0], Fault)
        # Only a length that cannot be believed loses the records behind it.
        assert found[0].rest == (place < 12)
        assert found[1:] == ([] if place < 12 else THREE[1:])
        assert "checksum" in found[0].reason


def test_a_false_length_asks_for_no_memory() -> None:
    length = struct.pack("<Q", 2**60)
    (fault,) = read(length + struct.pack("<I", masked_crc(length)) + b"x" * 100)
    assert isinstance(fault, Fault)
    assert fault.rest


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_garbage_is_never_a_record(data: bytes) -> None:
    found = read(data)
    assert all(isinstance(each, Fault) for each in found) or any(
        framed(e) in data for e in found if isinstance(e, bytes)
    )
    assert bool(found) == bool(data)


def test_one_record_is_in_memory_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    with path.open("wb") as file:
        for number in range(20):
            file.write(framed(bytes([number]) * 500_000))
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            assert [each[0] for each in records(file) if isinstance(each, bytes)] == list(range(20))
        assert tracemalloc.get_traced_memory()[1] < 2_500_000
    finally:
        tracemalloc.stop()
