"""Remote files, fetched in blocks that are cached in one file each, written atomically.

fsspec's own block cache marks a block as present before it has arrived, so that it returns zeros after a lost
connection, and processes that share it overwrite each other's files. Here only finished blocks are shared.
"""

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from roboalign.io import replacing

BLOCK = 4 * 2**20
"""Size of a block in bytes."""
ATTEMPTS, PAUSE = 3, 1.0
"""Number of attempts to fetch a block, and the pause in seconds before the second one; it doubles before the third."""
_IDENTITY = {
    "etag", "last-modified", "lastmodified", "mtime", "updated", "generation", "md5hash", "crc32c", "content-md5",
    "digest", "versionid", "created", "blob_id",
}  # fmt: skip
"""Keys of `fsspec`'s file information, in lower case, whose values change with the content of a file."""


class Blocks(io.RawIOBase):
    """A remote file, opened for reading. Raises ConnectionError if it cannot be fetched."""

    def __init__(self, system: Any, path: str, size: int, folder: Path) -> None:
        self._system, self._path, self._size, self._folder = system, path, size, folder
        self._offset = 0
        self._number = -1
        self._held: io.BufferedReader | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the offset of the next byte to read."""
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset and return it. Raises ValueError if it is negative."""
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        if position < 0:
            raise ValueError(f"offset {position} is before the start of {self._path}")
        self._offset = position
        return position

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer, at most to the end of the current block. Returns the number of bytes."""
        if self._offset >= self._size:
            return 0
        number, start = divmod(self._offset, BLOCK)
        if self._held is None or number != self._number:
            self._hold(number)
        assert self._held is not None
        self._held.seek(start)
        count = self._held.readinto(buffer)
        self._offset += count
        return count

    def close(self) -> None:
        """Close the file."""
        if self._held is not None:
            self._held.close()
            self._held = None
        super().close()

    def _hold(self, number: int) -> None:
        """Open a block, fetching it first if it is not cached."""
        start, stop = number * BLOCK, min((number + 1) * BLOCK, self._size)
        path = self._folder / f"{number:06d}"
        if not path.exists() or path.stat().st_size != stop - start:
            data = _fetch(lambda: self._system.cat_file(self._path, start=start, end=stop), self._path, stop - start)
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        if self._held is not None:
            self._held.close()
        self._number, self._held = number, path.open("rb")


def open_remote(system: Any, path: str, cache: Path) -> IO[bytes]:
    """Open a file of an fsspec file system; its blocks are cached in `cache` until its content changes.

    Raises FileNotFoundError, or ConnectionError if the file system cannot be reached.
    """
    info = describe(system, path)
    if info.get("type") == "directory":
        raise IsADirectoryError(path)
    size = info.get("size")
    if size is None:  # some servers do not report the size; then the file can only be fetched as a whole
        return io.BytesIO(_fetch(lambda: system.cat_file(path), path))
    properties = sorted((key, str(value)) for key, value in info.items() if key.lower() in _IDENTITY)
    identity = f"{system.unstrip_protocol(path)} {size} {BLOCK} {properties}"
    key = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    return io.BufferedReader(Blocks(system, path, int(size), cache / key[:2] / key), 2**16)


def describe(system: Any, path: str) -> dict[str, Any]:
    """Return the information of an fsspec file system on a file or folder.

    Raises FileNotFoundError, or ConnectionError if the file system cannot be reached.
    """
    answer: dict[str, Any] = _fetch(lambda: system.info(path), path)
    return answer


def _fetch(request: Callable[[], Any], path: str, length: int | None = None) -> Any:
    """Call `ask` up to ATTEMPTS times and return its result, which must have `length` bytes if that is given."""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * attempt)
        try:
            answer = request()
        except FileNotFoundError as error:
            if _missing(error):
                raise
            problem = str(error.__cause__)
        except Exception as error:  # each file system has its own errors
            problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        else:
            if length is None or len(answer) == length:
                return answer
            problem = f"{len(answer)} bytes were received instead of {length}"
    raise ConnectionError(f"{path}: {problem}")


def _missing(error: FileNotFoundError) -> bool:
    """Whether a FileNotFoundError means a missing file: fsspec also raises it if a web server does not respond."""
    import aiohttp  # only imported once a remote file is read

    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientResponseError):
        return cause.status in (404, 410)
    return not isinstance(cause, aiohttp.ClientError | OSError)
