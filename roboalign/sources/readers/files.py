"""Files of a data set through fsspec: local ones as they are, remote ones block by block through a local cache."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from roboalign.sources.errors import SourceError
from roboalign.sources.readers.blocks import described, open_remote


def unreachable(error: BaseException) -> bool:
    """Whether an error tells of a connection or a disk that fails, not of what a file holds; trying again may help."""
    if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
        return False
    # What parsers find wrong has no number; looking for a place before a short file's start is an invalid argument.
    return isinstance(error, TimeoutError | ConnectionError) or error.errno not in (None, errno.EINVAL)


@dataclass(frozen=True)
class Files:
    """The files below one URI. Remote files are fetched in blocks when they are read, and kept in `cache`."""

    uri: str
    system: Any
    """An fsspec file system."""
    root: str
    """The URI's path on it."""
    cache: Path

    @classmethod
    def at(cls, uri: str, options: Mapping[str, bool | int | str], cache: Path) -> "Files":
        """Open a place. Raises SourceError where it does not exist, or fsspec cannot open it."""
        try:
            system, root = url_to_fs(uri, **options)
            # A web server that has files need not answer for their folder.
            found = root.startswith(("http://", "https://")) or system.exists(root)
        except (ValueError, ImportError, OSError) as error:
            raise SourceError(f"{uri} cannot be opened: {error}") from None
        if not found:
            raise SourceError(f"{uri} does not exist; put your copy's place into `uri`")
        return cls(uri, system, root.rstrip("/"), cache)

    def path(self, name: str) -> str:
        """The path of a file on the file system."""
        return f"{self.root}/{name}" if name else self.root

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading. Raises FileNotFoundError; ConnectionError where a remote place does not answer."""
        if not isinstance(self.system, LocalFileSystem):
            return open_remote(self.system, self.path(name), self.cache)
        opened: IO[bytes] = self.system.open(self.path(name), "rb")
        return opened

    def bytes(self, name: str) -> bytes:
        """A whole small file. Raises FileNotFoundError."""
        with self.open(name) as file:
            return file.read()

    def exists(self, name: str) -> bool:
        """Whether a file or folder is there. Raises ConnectionError where a remote place does not answer."""
        if isinstance(self.system, LocalFileSystem):
            return bool(self.system.exists(self.path(name)))
        try:
            described(self.system, self.path(name))
        except FileNotFoundError:
            return False
        return True

    def glob(self, pattern: str) -> list[str]:
        """The files that match a pattern such as `**/*.hdf5`, relative to the root, sorted."""
        found = self.system.glob(self.path(pattern))
        return sorted(self._relative(path) for path in found)

    def listed(self, pattern: str) -> list[str]:
        """As `glob`; nothing where the place cannot list its folders, as many web servers."""
        try:
            return self.glob(pattern)
        except (OSError, NotImplementedError, ValueError):
            return []

    def _relative(self, path: str) -> str:
        # Some file systems answer with a leading slash that the root lacks, or the other way round.
        root = self.root.lstrip("/")
        return path.lstrip("/").removeprefix(root).lstrip("/")
