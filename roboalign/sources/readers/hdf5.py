"""HDF5 files of others: what they keep in further files is refused before it is opened.

HDF5 follows external links, external raw storage and virtual data sets to any file that they name.
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
"""Bytes of HDF5's chunk cache: compressed chunks of many pictures are unpacked once, not once a picture."""
CHUNK = 2**29
"""Bytes of a chunk at most: it is unpacked whole, however little of it is read."""
UNREADABLE = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, MemoryError, RecursionError,
    AttributeError, NotImplementedError,
)  # fmt: skip
"""What h5py raises on damaged files."""
LINKS = 16
"""Soft links that are followed one after the other."""
DATA_SETS = 10_000
"""Data sets of a demonstration at most."""


class Watched:
    """A file that remembers why it could not be read: HDF5 reports a lost connection like a damaged file."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.error: Exception | None = None

    def refuse(self, path: str) -> None:
        """Raise SourceError if reading failed for a reason that lies outside the file."""
        if self.error is not None:
            raise SourceError(f"{path} cannot be read: {self.error}; run it again") from None

    def readinto(self, target: Any) -> int:
        """Fill a buffer; the bytes read."""
        try:
            data = self.stream.read(len(target))
        except Exception as error:
            self.error = error
            raise
        target[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Some bytes."""
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move."""
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        """Where it stands."""
        return self.stream.tell()


@contextmanager
def open_hdf5(files: Files, path: str) -> Iterator[tuple[Any, Watched]]:
    """An HDF5 file, and the stream below it.

    Raises DamagedError if it is not one or what is read of it is damaged, SourceError if reading fails.
    """
    try:
        stream = Watched(files.open(path))
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


def member(group: Any, path: str, left: int = LINKS) -> Any:
    """What lies at a path below a group; None if nothing does.

    Raises DamagedError if the way leads into another file, or round in a circle.
    """
    here = group
    for name in path.split("/"):
        if name in ("", "."):
            continue
        # h5py's own look-up, even whether a name is there, would follow the link.
        encoded = name.encode("utf-8", "surrogateescape")
        if not isinstance(here, h5py.Group) or not here.id.links.exists(encoded):
            return None
        kind = here.id.links.get_info(encoded).type
        if kind == h5py.h5l.TYPE_SOFT and left:
            aim = here.id.links.get_val(encoded).decode("utf-8", "surrogateescape")
            here = member(here.file if aim.startswith("/") else here, aim, left - 1)
        elif kind == h5py.h5l.TYPE_HARD:
            here = here[name]
        else:
            raise DamagedError(f"'{name}' is a link into another file, or round in a circle, which is not followed")
    return here


def data_sets(group: Any) -> dict[str, Any]:
    """All data sets below a group, by path. Before one is read, `check_storage` says whether it may be."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> Any:
        if isinstance(item, h5py.Dataset):
            found[name] = item
        return True if len(found) > DATA_SETS else None

    group.visititems(note)
    if len(found) > DATA_SETS:
        raise DamagedError(f"it has more than {DATA_SETS} data sets")
    return found


def check_storage(array: Any, name: str) -> None:
    """Raise DamagedError if a data set is kept in other files than its own, or in chunks too large to be unpacked."""
    if array.is_virtual or array.external:
        kind = "a virtual data set" if array.is_virtual else "kept in external storage"
        raise DamagedError(f"its '{name}' is {kind}: it lies in other files, which are not read; `h5repack` joins them")
    if array.chunks and (size := math.prod(array.chunks) * array.dtype.itemsize) > CHUNK:
        raise DamagedError(f"its '{name}' has chunks of {size} bytes, more than {CHUNK}; `h5repack` divides them")


def check_picture_size(shape: Sequence[int], camera: str) -> None:
    """Raise DamagedError if one picture of a data set of pictures, of this `shape`, takes too much memory."""
    if math.prod(shape[1:]) > 3 * PIXELS:
        raise DamagedError(f"its pictures '{camera}' are too large: their shape is {tuple(shape)}")


def attribute_values(group: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of a group that can be read; bytes come as text."""
    for key in group.attrs:
        with suppress(*UNREADABLE):
            value = group.attrs[key]
            yield key, value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
