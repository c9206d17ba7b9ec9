"""Remote files, fetched in blocks; each block is kept in a file of its own that is put there whole or not at all.

fsspec's own block cache marks a block before it has come, so that after a lost connection it would answer with zeros;
and processes that share it overwrite each other's files. Nothing here is shared but finished blocks.
"""

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from roboalign.io import replacing

BLOCK = 4 * 2**20
"""Bytes that are fetched at once."""
ATTEMPTS, PAUSE = 3, 1.0
"""How often a block is asked for, and the seconds before the second time; before the third they are twice as many."""
_IDENTITY = {
    "etag", "last-modified", "lastmodified", "mtime", "updated", "generation", "md5hash", "crc32c", "content-md5",
    "digest", "versionid", "created", "blob_id",
}  # fmt: skip
"""What file systems tell of a file that changes with its content, in small letters."""


class Blocks(io.RawIOBase):
    """One remote file, for reading. Errors of the connection are ConnectionErrors."""

    def __init__(self, system: Any, path: str, size: int, folder: Path) -> None:
        self._system, self._path, self._size, self._folder = system, path, size, folder
        self._place = 0
        self._number = -1
        self._held: io.BufferedReader | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The place of the next byte that is read."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; raises ValueError where it lies before the file."""
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if place < 0:
            raise ValueError(f"{place} lies before the start of {self._path}")
        self._place = place
        return place

    def readinto(self, buffer: Any, /) -> int:
        """Read up to the end of a block at most."""
        if self._place >= self._size:
            return 0
        number, offset = divmod(self._place, BLOCK)
        if self._held is None or number != self._number:
            self._hold(number)
        assert self._held is not None
        self._held.seek(offset)
        count = self._held.readinto(buffer)
        self._place += count
        return count

    def close(self) -> None:
        """Close the block that is open."""
        if self._held is not None:
            self._held.close()
            self._held = None
        super().close()

    def _hold(self, number: int) -> None:
        """Open a block, and fetch it before where it is not there yet."""
        start, stop = number * BLOCK, min((number + 1) * BLOCK, self._size)
        path = self._folder / f"{number:06d}"
        if not path.exists() or path.stat().st_size != stop - start:
            data = _ask(lambda: self._system.cat_file(self._path, start=start, end=stop), self._path, stop - start)
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        if self._held is not None:
            self._held.close()
        self._number, self._held = number, path.open("rb")


def open_remote(system: Any, path: str, cache: Path) -> IO[bytes]:
    """Open a file of an fsspec file system, with blocks kept in `cache` until its content changes.

    Raises FileNotFoundError, or ConnectionError where the place cannot be reached.
    """
    info = describe(system, path)
    if info.get("type") == "directory":
        raise IsADirectoryError(path)
    size = info.get("size")
    if size is None:  # some servers do not tell; then it can only be fetched as a whole
        return io.BytesIO(_ask(lambda: system.cat_file(path), path))
    known = sorted((key, str(value)) for key, value in info.items() if key.lower() in _IDENTITY)
    text = f"{system.unstrip_protocol(path)} {size} {BLOCK} {known}"
    key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return io.BufferedReader(Blocks(system, path, int(size), cache / key[:2] / key), 2**16)


def describe(system: Any, path: str) -> dict[str, Any]:
    """What an fsspec file system tells of a file or folder. Raises FileNotFoundError, or ConnectionError."""
    answer: dict[str, Any] = _ask(lambda: system.info(path), path)
    return answer


def _ask(ask: Callable[[], Any], path: str, length: int | None = None) -> Any:
    """The answer of a remote place, asked several times; `length` bytes of it where that is given."""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * attempt)
        try:
            answer = ask()
        except FileNotFoundError as error:
            if _missing(error):
                raise
            problem = str(error.__cause__)
        except Exception as error:  # each kind of place has its own errors
            problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        else:
            if length is None or len(answer) == length:
                return answer
            problem = f"{len(answer)} bytes came where {length} were asked for"
    raise ConnectionError(f"{path}: {problem}")


def _missing(error: FileNotFoundError) -> bool:
    """Whether a file is not there, rather than that a web server did not answer, which fsspec reports alike."""
    import aiohttp  # not before something remote is read

    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientResponseError):
        return cause.status in (404, 410)
    return not isinstance(cause, aiohttp.ClientError | OSError)
