"""Reads TFRecord files: a sequence of records, each with a length and two checksums.

Layout of a record, with little-endian numbers: length (8 bytes), masked CRC-32C of the length (4), data, masked CRC-32C
of the data (4).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import google_crc32c

HEADER, FOOTER = 12, 4
"""Number of bytes before and after a record's data."""
_MASK = 0xA282EAD8


@dataclass(frozen=True, slots=True)
class Fault:
    """A damaged record."""

    reason: str
    """Description of the damage."""
    rest: bool
    """Whether the rest of the file is unreadable too, because the start of the next record is unknown."""


def records(file: IO[bytes]) -> Iterator[bytes | Fault]:
    """Yield the records of an open file, one in memory at a time; a damaged one is yielded as a `Fault`.

    A length is used only if its checksum is valid and the file is long enough, so that a damaged file cannot exhaust
    memory.
    """
    size = file.seek(0, 2)
    offset = file.seek(0)
    while offset < size:
        header = file.read(HEADER)
        if len(header) < HEADER:
            yield Fault(f"the file is truncated at byte {size}, inside a record's length", rest=True)
            return
        length, checksum = struct.unpack("<QI", header)
        if masked_crc(header[:8]) != checksum:
            yield Fault(f"the checksum of a record's length is wrong at byte {offset}", rest=True)
            return
        missing = offset + HEADER + length + FOOTER - size
        if missing > 0:
            yield Fault(f"the file is truncated at byte {size}: {missing} bytes of a record are missing", rest=True)
            return
        data = file.read(length)
        footer = file.read(FOOTER)
        if len(data) + len(footer) < length + FOOTER:
            yield Fault(f"the file ends before byte {size}, inside a record", rest=True)
            return
        if masked_crc(data) != struct.unpack("<I", footer)[0]:
            yield Fault(f"the checksum of its {length} bytes of data is wrong at byte {offset}", rest=False)
        else:
            yield data
        offset += HEADER + length + FOOTER


def masked_crc(data: bytes) -> int:
    """Return the CRC-32C of `data`, masked as TFRecord does: rotated by 15 bits, plus a constant."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
