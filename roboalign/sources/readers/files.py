"""Files of a data set through fsspec: local ones as they are, remote ones block by block through a local cache."""

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from roboalign.io import lfs_size
from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.blocks import describe, open_remote

WHOLE = 2**30
"""Bytes of a file at most that is read as a whole."""
LONGEST_PATH, LONGEST_NAME = 1024, 255
"""Bytes of a path inside a data set, and of one of its parts."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_MARKS = ("features.json", "meta/info.json", "training/lang_annotations", "validation/lang_annotations")
"""What lies in the folder of a data set, for a URI that leads to a file inside it."""
_ABOVE = 4
"""Folders above such a file that are looked at."""


def unreachable(error: BaseException) -> bool:
    """Whether an error tells of a connection or a disk that fails, not of what a file holds; trying again may help."""
    if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
        return False
    # What parsers find wrong has no number; looking for a place before a short file's start is an invalid argument.
    return isinstance(error, TimeoutError | ConnectionError) or error.errno not in (None, errno.EINVAL)


def inside(path: object) -> str:
    """A path that a data set gives, relative to its folder. Raises DamagedError if it leads out of it or is no path."""
    if not isinstance(path, str) or not path.strip():
        raise DamagedError("is not the path of a file")
    parts = PurePosixPath(path).parts
    if ".." in parts or PurePosixPath(path).is_absolute() or "://" in path:
        raise DamagedError(f"is the file {path[:LONGEST_NAME]!r}, which lies outside of the data set")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        sizes = [LONGEST_PATH]
    if _CONTROL.search(path) or max(sizes, default=0) > LONGEST_NAME or sum(sizes) > LONGEST_PATH:
        raise DamagedError(f"is {path[:LONGEST_NAME]!r}, which is not a path of a file")
    return str(PurePosixPath(path))


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
        """Open a place. Raises SourceError if it does not exist, is a file, or fsspec cannot open it."""
        try:
            system, root = url_to_fs(uri, **options)
            # A web server that has files need not answer for their folder.
            web = root.startswith(("http://", "https://"))
            kind = "directory" if web else system.info(root)["type"]
        except FileNotFoundError:
            raise SourceError(f"{uri} does not exist; put your copy's place into `uri`") from None
        except (ValueError, ImportError, OSError) as error:
            raise SourceError(f"{uri} cannot be opened: {error}") from None
        if kind == "file":
            folder = _folder_of(system, root)
            raise SourceError(f"{uri} is a file; `uri` is the folder of the data set, here {folder}")
        return cls(uri, system, root.rstrip("/"), cache)

    def path(self, name: str) -> str:
        """The path of a file on the file system. Raises SourceError if the name leads out of the data set."""
        try:
            return f"{self.root}/{inside(name)}" if name else self.root
        except DamagedError as error:
            raise SourceError(f"{self.uri}: a path {error}") from None

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading.

        Raises FileNotFoundError; ConnectionError if a remote place does not answer; SourceError for a Git LFS pointer.
        """
        path = self.path(name)
        opened: IO[bytes]
        if isinstance(self.system, LocalFileSystem):
            if Path(path).exists() and not Path(path).is_file():
                raise IsADirectoryError(path)  # or a device, which would be read without end
            opened = self.system.open(path, "rb")
        else:
            opened = open_remote(self.system, path, self.cache)
        size = lfs_size(opened)
        if size is not None:
            opened.close()
            raise SourceError(
                f"{self.uri}: {name} is a Git LFS pointer, not the {size} bytes of the file; "
                "run `git lfs pull` in the data set's repository"
            )
        return opened

    def bytes(self, name: str) -> bytes:
        """A whole file. Raises FileNotFoundError, and DamagedError if it has more than WHOLE bytes."""
        with self.open(name) as file:
            size = file.seek(0, os.SEEK_END)
            if size > WHOLE:
                raise DamagedError(f"{name} has more than {WHOLE} bytes, which are too many to be read at once")
            file.seek(0)
            return file.read(size)  # not up to WHOLE: that much memory would be asked for

    def exists(self, name: str) -> bool:
        """Whether a file or folder is there. Raises ConnectionError if a remote place does not answer."""
        if isinstance(self.system, LocalFileSystem):
            return bool(self.system.exists(self.path(name)))
        try:
            describe(self.system, self.path(name))
        except FileNotFoundError:
            return False
        return True

    def glob(self, pattern: str) -> list[str]:
        """The files that match a pattern such as `**/*.hdf5`, relative to the root, sorted. The root is no pattern."""
        depth = None if "**" in pattern else pattern.count("/") + 1
        wanted = re.compile(glob_translate(pattern))
        found = (self._relative(path) for path in self.system.find(self.root, maxdepth=depth))
        return sorted(path for path in found if wanted.match(path))

    def find(self, pattern: str) -> list[str]:
        """As `glob`; nothing where the place cannot list its folders, as many web servers."""
        try:
            return self.glob(pattern)
        except (OSError, NotImplementedError, ValueError):
            return []

    def _relative(self, path: str) -> str:
        # Some file systems answer with a leading slash that the root lacks, or the other way round.
        root = self.root.lstrip("/")
        return path.lstrip("/").removeprefix(root).lstrip("/")


def _folder_of(system: Any, file: str) -> str:
    """The folder of the data set that a file lies in: the nearest one above it with a mark of one, else its own."""
    above = [str(path) for path in PurePosixPath(file).parents][:_ABOVE]
    marked = (folder for folder in above if any(system.exists(f"{folder}/{mark}") for mark in _MARKS))
    return next(marked, above[0])
