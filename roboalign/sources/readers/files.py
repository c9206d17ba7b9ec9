"""Opens the files of a data set through fsspec: local ones directly, remote ones through a local block cache."""

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
"""Largest size in bytes of a file that is read as a whole."""
LONGEST_PATH, LONGEST_NAME = 1024, 255
"""Largest length in bytes of a path inside a data set, and of one path component."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_MARKS = ("features.json", "meta/info.json", "training/lang_annotations", "validation/lang_annotations")
"""Files that identify the root folder of a data set, for a URI that points to a file inside it."""
_ABOVE = 4
"""Number of parent folders that are searched for these files."""


def unreachable(error: BaseException) -> bool:
    """Whether an error concerns the connection or the disk rather than the content of a file; a retry may succeed."""
    if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
        return False
    # Errors of parsers have no number; a seek before the start of a truncated file is EINVAL.
    return isinstance(error, TimeoutError | ConnectionError) or error.errno not in (None, errno.EINVAL)


def inside(path: object) -> str:
    """Validate a path that a data set contains, relative to its folder.

    Raises DamagedError if it points outside the folder or is not a path.
    """
    if not isinstance(path, str) or not path.strip():
        raise DamagedError("is not the path of a file")
    parts = PurePosixPath(path).parts
    if ".." in parts or PurePosixPath(path).is_absolute() or "://" in path:
        raise DamagedError(f"is the file {path[:LONGEST_NAME]!r}, which is outside of the data set")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        sizes = [LONGEST_PATH]
    if _CONTROL.search(path) or max(sizes, default=0) > LONGEST_NAME or sum(sizes) > LONGEST_PATH:
        raise DamagedError(f"is {path[:LONGEST_NAME]!r}, which is not a path of a file")
    return str(PurePosixPath(path))


@dataclass(frozen=True)
class Files:
    """The files below one URI. Remote files are fetched in blocks on demand and cached in `cache`."""

    uri: str
    system: Any
    """The fsspec file system."""
    root: str
    """Path of the URI on the file system."""
    cache: Path

    @classmethod
    def at(cls, uri: str, options: Mapping[str, bool | int | str], cache: Path) -> "Files":
        """Open a URI. Raises SourceError if it does not exist, is a file, or cannot be opened by fsspec."""
        try:
            system, root = url_to_fs(uri, **options)
            # Web servers often have no entry for a folder.
            web = root.startswith(("http://", "https://"))
            kind = "directory" if web else system.info(root)["type"]
        except FileNotFoundError:
            raise SourceError(f"{uri} does not exist; set `uri` to the path of your copy") from None
        except (ValueError, ImportError, OSError) as error:
            raise SourceError(f"{uri} cannot be opened: {error}") from None
        if kind == "file":
            folder = _folder_of(system, root)
            raise SourceError(f"{uri} is a file; `uri` is the folder of the data set, here {folder}")
        return cls(uri, system, root.rstrip("/"), cache)

    def path(self, name: str) -> str:
        """Return the path of a file on the file system. Raises SourceError if the name points outside the data set."""
        try:
            return f"{self.root}/{inside(name)}" if name else self.root
        except DamagedError as error:
            raise SourceError(f"{self.uri}: a path {error}") from None

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading.

        Raises FileNotFoundError; ConnectionError if a remote server does not respond; SourceError for a Git LFS
        pointer.
        """
        path = self.path(name)
        opened: IO[bytes]
        if isinstance(self.system, LocalFileSystem):
            if Path(path).exists() and not Path(path).is_file():
                raise IsADirectoryError(path)  # or a device, which could be read endlessly
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
        """Read a whole file. Raises FileNotFoundError, and DamagedError if it has more than WHOLE bytes."""
        with self.open(name) as file:
            size = file.seek(0, os.SEEK_END)
            if size > WHOLE:
                raise DamagedError(f"{name} has more than {WHOLE} bytes, which are too many to be read at once")
            file.seek(0)
            return file.read(size)  # not WHOLE, which would be allocated at once

    def exists(self, name: str) -> bool:
        """Whether a file or folder exists. Raises ConnectionError if a remote server does not respond."""
        if isinstance(self.system, LocalFileSystem):
            return bool(self.system.exists(self.path(name)))
        try:
            describe(self.system, self.path(name))
        except FileNotFoundError:
            return False
        return True

    def glob(self, pattern: str) -> list[str]:
        """Return the files that match a pattern such as `**/*.hdf5`, relative to the root, sorted.

        The root is matched literally.
        """
        depth = None if "**" in pattern else pattern.count("/") + 1
        regex = re.compile(glob_translate(pattern))
        relative_paths = (self._relative(path) for path in self.system.find(self.root, maxdepth=depth))
        return sorted(path for path in relative_paths if regex.match(path))

    def find(self, pattern: str) -> list[str]:
        """Like `glob`, but returns no files if folders cannot be listed, as on many web servers."""
        try:
            return self.glob(pattern)
        except (OSError, NotImplementedError, ValueError):
            return []

    def _relative(self, path: str) -> str:
        # Some file systems return a leading slash that the root lacks, or the other way round.
        root = self.root.lstrip("/")
        return path.lstrip("/").removeprefix(root).lstrip("/")


def _folder_of(system: Any, file: str) -> str:
    """Return the root folder of the data set that contains a file: the nearest one with a known file, else its
    parent."""
    parents = [str(path) for path in PurePosixPath(file).parents][:_ABOVE]
    roots = (folder for folder in parents if any(system.exists(f"{folder}/{mark}") for mark in _MARKS))
    return next(roots, parents[0])
