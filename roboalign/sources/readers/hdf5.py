"""Opens untrusted HDF5 files: data that is stored in other files is rejected before it is opened.

HDF5 follows external links, external storage and virtual data sets to any file that they name.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import h5py

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import MISSING
from roboalign.sources.readers.files import Files
from roboalign.store.media import PIXELS

PATTERNS = ("**/*.hdf5", "**/*.h5")
CHUNKS = 64 * 2**20
"""Size of HDF5's chunk cache in bytes, large enough to decompress chunks of many images only once."""
CHUNK = 2**29
"""Largest size of a chunk in bytes, since a chunk is always decompressed as a whole."""
UNREADABLE = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, MemoryError, RecursionError,
    AttributeError, NotImplementedError,
)  # fmt: skip
"""Exceptions of h5py for damaged files."""
LINKS = 16
"""Largest number of soft links that are followed in succession."""
DATA_SETS = 10_000
"""Largest number of data sets in a group."""


class ErrorRecordingStream:
    """A file that records read errors, since HDF5 reports a lost connection like a damaged file."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.error: Exception | None = None

    def refuse(self, path: str) -> None:
        """Raise SourceError if reading failed for a reason outside the file."""
        if self.error is not None:
            raise SourceError(f"{path} cannot be read: {self.error}; run it again") from None

    def readinto(self, target: Any) -> int:
        """Read into a buffer. Returns the number of bytes."""
        try:
            data = self.stream.read(len(target))
        except Exception as error:
            self.error = error
            raise
        target[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes; all if it is -1."""
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset and return it."""
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the current offset."""
        return self.stream.tell()


@contextmanager
def open_hdf5(files: Files, path: str) -> Iterator[tuple[Any, ErrorRecordingStream]]:
    """Open an HDF5 file; yields the file and the underlying stream.

    Raises DamagedError if it is not an HDF5 file or is damaged, SourceError if it cannot be fetched.
    """
    try:
        stream = ErrorRecordingStream(files.open(path))
    except MISSING:
        raise DamagedError("the file is missing") from None
    except OSError as error:
        raise SourceError(f"{files.uri}/{path} cannot be fetched: {error}; run it again") from None
    with stream.stream:
        try:
            file = h5py.File(stream, "r", rdcc_nbytes=CHUNKS)
        except UNREADABLE as error:
            stream.refuse(path)
            raise DamagedError(f"it is not an HDF5 file, or a truncated one: {error}") from None
        try:
            with file:
                yield file, stream
        except (DamagedError, SourceError):
            raise
        except UNREADABLE as error:
            stream.refuse(path)
            raise DamagedError(f"HDF5 cannot read it: {error}") from None


def member(group: Any, path: str, links_left: int = LINKS) -> Any:
    """Return the object at a path below a group; None if there is none.

    Raises DamagedError if the path leads to another file or contains a cycle of links.
    """
    node = group
    for name in path.split("/"):
        if name in ("", "."):
            continue
        # h5py's own lookup, even `in`, would follow the link.
        encoded = name.encode("utf-8", "surrogateescape")
        if not isinstance(node, h5py.Group) or not node.id.links.exists(encoded):
            return None
        kind = node.id.links.get_info(encoded).type
        if kind == h5py.h5l.TYPE_SOFT and links_left:
            target = node.id.links.get_val(encoded).decode("utf-8", "surrogateescape")
            node = member(node.file if target.startswith("/") else node, target, links_left - 1)
        elif kind == h5py.h5l.TYPE_HARD:
            node = node[name]
        else:
            raise DamagedError(f"'{name}' is a link to another file, or part of a cycle of links, and is not followed")
    return node


def data_sets(group: Any) -> dict[str, Any]:
    """Return all data sets below a group by path. Call `check_storage` before reading one."""
    arrays: dict[str, Any] = {}

    def visit(name: str, item: Any) -> Any:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item
        return True if len(arrays) > DATA_SETS else None

    group.visititems(visit)
    if len(arrays) > DATA_SETS:
        raise DamagedError(f"it has more than {DATA_SETS} data sets")
    return arrays


def check_storage(array: Any, name: str) -> None:
    """Raise DamagedError if a data set is stored in other files, or in chunks larger than CHUNK."""
    if array.is_virtual or array.external:
        kind = "a virtual data set" if array.is_virtual else "kept in external storage"
        raise DamagedError(
            f"its '{name}' is {kind}: it is stored in other files, which are not read; `h5repack` merges them"
        )
    if array.chunks and (size := math.prod(array.chunks) * array.dtype.itemsize) > CHUNK:
        raise DamagedError(f"its '{name}' has chunks of {size} bytes, more than {CHUNK}; `h5repack` divides them")


def check_image_size(shape: Sequence[int], camera: str) -> None:
    """Raise DamagedError if one image of an image data set of this shape has more than PIXELS pixels."""
    if math.prod(shape[1:]) > 3 * PIXELS:
        raise DamagedError(f"its images '{camera}' are too large: their shape is {tuple(shape)}")


def attribute_values(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield the readable attributes of a group, with bytes decoded as text."""
    for key in group.attrs:
        with suppress(*UNREADABLE):
            value = group.attrs[key]
            yield key, value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
