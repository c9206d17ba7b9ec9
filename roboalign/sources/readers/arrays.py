"""Reads `.npy` and `.npz` files without trusting them: nothing is unpickled, and declared sizes allocate no memory."""

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
"""Exceptions of numpy and zipfile for damaged files, whose headers numpy parses as Python literals."""
BYTES = 2**29
"""Largest size of an array in bytes."""
_END = 2**16 + 22
"""Bytes at the end of a ZIP file that can contain the end-of-central-directory record."""


def read_error(path: str, error: OSError) -> DamagedError | SourceError:
    """Return the error for a file that cannot be read: DamagedError if its content asks for an invalid offset, else
    SourceError."""
    if error.errno == errno.EINVAL:  # a seek to a negative offset, caused by a damaged ZIP directory
        return DamagedError(f"it is damaged: its directory points outside the file ({error})")
    return SourceError(f"{path} cannot be fetched: {error}; run it again")


def read_npy(file: IO[bytes]) -> NDArray[Any]:
    """Read an open `.npy` file. Raises DamagedError if it is not one, contains objects or has more than BYTES bytes."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.hasobject:
            raise DamagedError("it contains Python objects, which are not read")
        if min(shape, default=0) < 0:
            raise ValueError(f"its shape is {str(shape)[:80]}")
        size = math.prod(shape) * dtype.itemsize
        if size > BYTES:
            raise DamagedError(f"it has the shape {str(shape)[:80]} of {dtype}, which is more than {BYTES} bytes")
        data = bytearray(file.read(size))
        if len(data) < size:
            raise ValueError(f"it ends after {len(data)} of {size} bytes")
        array: NDArray[Any] = np.ndarray(shape, dtype, data, order="F" if fortran else "C")
    except BAD_ARRAY as error:
        raise DamagedError(f"it is not an .npy file, or a damaged one: {error or type(error).__name__}") from None
    return array


class Npz(Mapping[str, NDArray[Any]]):
    """The arrays of an `.npz` file by name, each unpacked on access, which raises DamagedError if it is damaged."""

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
        except (RuntimeError, *BAD_ARRAY) as error:  # a RuntimeError means that a password is needed
            raise DamagedError(f"its array '{key}' cannot be unpacked: {error or type(error).__name__}") from None

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


@contextmanager
def open_npz(file: IO[bytes]) -> Iterator[Npz]:
    """Open an `.npz` file. Raises DamagedError if it is not one, OSError if it cannot be read."""
    # Both ends are read beforehand: zipfile reports a lost connection as a file of another type.
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
