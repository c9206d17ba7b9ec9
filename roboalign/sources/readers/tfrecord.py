"""TFRecord files: a row of records, each framed by its length and two checksums.

Layout of a record, all numbers little-endian: length (8 bytes), masked CRC-32C of the length (4), the data, masked
CRC-32C of the data (4).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import google_crc32c

HEADER, FOOTER = 12, 4
"""Bytes before and after a record's data."""
_MASK = 0xA282EAD8


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be used."""

    reason: str
    """What is wrong with it."""
    rest: bool
    """Whether the file cannot be read beyond it either, because nobody knows where the next record begins."""


def records(file: IO[bytes]) -> Iterator[bytes | Fault]:
    """The records of an open file from its beginning, one in memory at a time; a bad one comes as a `Fault`.

    A length is believed only when its checksum holds and the file is long enough, so garbage never asks for memory.
    """
    size = file.seek(0, 2)
    place = file.seek(0)
    while place < size:
        header = file.read(HEADER)
        if len(header) < HEADER:
            yield Fault(f"the file is truncated at byte {size}, inside a record's length", rest=True)
            return
        length, checksum = struct.unpack("<QI", header)
        if masked_crc(header[:8]) != checksum:
            yield Fault(f"the checksum of a record's length is wrong at byte {place}", rest=True)
            return
        missing = place + HEADER + length + FOOTER - size
        if missing > 0:
            yield Fault(f"the file is truncated at byte {size}: {missing} bytes of a record are missing", rest=True)
            return
        data = file.read(length)
        footer = file.read(FOOTER)
        if len(data) + len(footer) < length + FOOTER:
            yield Fault(f"the file ends before byte {size}, inside a record", rest=True)
            return
        if masked_crc(data) != struct.unpack("<I", footer)[0]:
            yield Fault(f"the checksum of its {length} bytes of data is wrong at byte {place}", rest=False)
        else:
            yield data
        place += HEADER + length + FOOTER


def masked_crc(data: bytes) -> int:
    """The CRC-32C of `data` as TFRecord stores it: rotated by 15 bits and moved by a constant."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
