"""`.npy` and `.npz` files, whose headers are not believed: nothing is unpickled, and no size asks for memory."""

import errno
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from roboalign.sources.errors import DamagedError, SourceError

BAD_ARRAY = (
    ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError, SyntaxError, MemoryError,
    IndexError, OverflowError, RecursionError, tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise on damaged files: their headers are parsed as Python, their sizes believed."""
BYTES = 2**29
"""Bytes of an array at most."""
_END = 2**16 + 22
"""Bytes at a ZIP's end that hold its directory's place."""


def read_error(place: str, error: OSError) -> DamagedError | SourceError:
    """The error for an unreadable file at `place`: it is damaged if its content names a place outside of it."""
    if error.errno == errno.EINVAL:  # a seek to before the beginning, which a damaged directory of a ZIP asks for
        return DamagedError(f"it is damaged: its directory names a place outside of the file ({error})")
    return SourceError(f"{place} cannot be fetched: {error}; run it again")


def read_npy(file: IO[bytes]) -> NDArray[Any]:
    """The array of an open `.npy` file. Raises DamagedError if it is none, holds objects or has more than BYTES."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.hasobject:
            raise DamagedError("it holds Python objects, which are not read")
        if min(shape, default=0) < 0:
            raise ValueError(f"its shape is {str(shape)[:80]}")
        size = math.prod(shape) * dtype.itemsize
        if size > BYTES:
            raise DamagedError(f"it has the shape {str(shape)[:80]} of {dtype}, which is more than {BYTES} bytes")
        data = bytearray(file.read(size))
        if len(data) < size:
            raise ValueError(f"it ends after {len(data)} of {size} bytes")
        found: NDArray[Any] = np.ndarray(shape, dtype, data, order="F" if fortran else "C")
    except BAD_ARRAY as error:
        raise DamagedError(f"it is not an .npy file, or a damaged one: {error or type(error).__name__}") from None
    return found


class Npz(Mapping[str, NDArray[Any]]):
    """The arrays of an `.npz` file by name; each is unpacked when it is asked for, and then raises DamagedError."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}

    def __getitem__(self, key: str) -> NDArray[Any]:
        member = self._members[key]
        if member.file_size > BYTES:
            raise DamagedError(f"its array '{key}' has {member.file_size} bytes, more than {BYTES}")
        try:
            with self._archive.open(member) as file:
                return read_npy(file)
        except DamagedError as error:
            raise DamagedError(f"its array '{key}' cannot be read: {error}") from None
        except (RuntimeError, *BAD_ARRAY) as error:  # a RuntimeError asks for a password
            raise DamagedError(f"its array '{key}' cannot be unpacked: {error or type(error).__name__}") from None

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


@contextmanager
def open_npz(file: IO[bytes]) -> Iterator[Npz]:
    """The arrays of an open `.npz` file. Raises DamagedError if it is none, OSError if it cannot be read."""
    # Both ends are read beforehand: zipfile takes a lost connection for a file of another kind.
    file.read(4)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END))
    file.read()
    try:
        archive = zipfile.ZipFile(file)
    except BAD_ARRAY as error:
        raise DamagedError(f"it is not an .npz file, or a damaged one: {error or type(error).__name__}") from None
    with archive:
        yield Npz(archive)
