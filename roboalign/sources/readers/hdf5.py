"""HDF5 files of others: what they keep in further files is refused before it is opened.

HDF5 follows external links, external raw storage and virtual data sets to any file that they name.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

import h5py

from roboalign.sources.errors import DamagedError, SourceError

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
    """All data sets below a group, by path. Those that are kept in other files raise DamagedError by `require_own`."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> Any:
        if isinstance(item, h5py.Dataset):
            found[name] = item
        return True if len(found) > DATA_SETS else None

    group.visititems(note)
    if len(found) > DATA_SETS:
        raise DamagedError(f"it has more than {DATA_SETS} data sets")
    return found


def require_own(array: Any, name: str) -> None:
    """Raise DamagedError if a data set is kept in other files than its own."""
    if array.is_virtual or array.external:
        kind = "a virtual data set" if array.is_virtual else "kept in external storage"
        raise DamagedError(f"its '{name}' is {kind}: it lies in other files, which are not read; `h5repack` joins them")


def attribute_values(group: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of a group that can be read; bytes come as text."""
    for key in group.attrs:
        with suppress(*UNREADABLE):
            value = group.attrs[key]
            yield key, value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
