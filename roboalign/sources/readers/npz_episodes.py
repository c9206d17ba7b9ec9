"""Folders of `.npz` files, one an episode, as iVideoGPT and RLVR-World convert data sets."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.arrays import BAD_ARRAY, open_npz, read_error
from roboalign.sources.readers.columns import MISSING, STEPS, Columns, picture
from roboalign.sources.readers.file_episodes import FileEpisodes
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import Raw, changes_of, require_key
from roboalign.sources.readers.spec import NpzEpisodesSpec
from roboalign.sources.readers.text import decode_text
from roboalign.types import UInt8

PATTERN = "**/*.npz"
LONGEST = 2000
"""Characters of a text that is an attribute."""


class NpzEpisodes(FileEpisodes):
    """The episodes of a folder."""

    def __init__(self, spec: NpzEpisodesSpec, files: Files) -> None:
        super().__init__(files, [PATTERN], spec.fps, self.read_file)
        self.spec, self.files = spec, files
        self.camera = spec.cameras[0]

    def read_file(self, path: str) -> Raw:
        """The episode of a file. Raises DamagedError."""
        shapes = array_shapes(self.files, path)
        first = self.spec.actions[0].key
        # Without its pictures an episode still has a length, and may be one that the filter leaves out.
        key = self.camera if self.camera in shapes else first
        require_key(shapes, key, "camera" if first not in shapes else "action column")
        if not shapes[key][0]:
            raise DamagedError(f"its '{key}' is a single value, not one for each step")
        length = shapes[key][0][0]
        if length > STEPS:
            raise DamagedError(f"its '{key}' has {length} rows, more than {STEPS}")
        numeric = [name for name, (shape, kind) in shapes.items() if len(shape) in (1, 2) and kind in "biuf"]
        single = [name for name, (shape, kind) in shapes.items() if len(shape) == 0 and kind in "biufUS"]
        texts = [name for name, (shape, kind) in shapes.items() if len(shape) <= 1 and kind in "US"]
        attributes = {"file": path, "folder": str(PurePosixPath(path).parent)}
        instructions: list[str] = []
        for name in dict.fromkeys((*single, *texts)):
            words = texts_of(load_array(self.files, path, name))
            if name == self.spec.instruction_field and len(words) == length:
                instructions = words
            text = next(iter(words), "")
            if len(text) <= LONGEST:
                attributes[name] = text

        def column(name: str) -> Any:
            values = load_array(self.files, path, name)
            if len(values) != length:
                raise DamagedError(f"its '{name}' has {len(values)} rows, but there are {length} of '{key}'")
            return values

        def pictures(steps: Sequence[int]) -> Iterator[UInt8]:
            require_key(shapes, self.camera, "camera")
            array = load_array(self.files, path, self.camera)
            for step in steps:
                yield picture(array[step], self.camera)

        return Raw(
            name=path,
            length=length,
            pictures=pictures,
            columns=Columns(numeric, column),
            instruction=attributes.get(self.spec.instruction_field, ""),
            attributes=attributes,
            instructions=instructions,
            warnings=changes_of(instructions),
        )


def array_shapes(files: Files, path: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and the kind of dtype of each array of an `.npz` file, whose headers alone are read.

    Raises DamagedError if it is none, or an array is not as large as its header says; SourceError if it cannot be
    fetched.
    """
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    try:
        with files.open(path) as file, zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    version = np.lib.format.read_magic(member)
                    read_header = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read_header(member)
                    held = info.file_size - member.tell()
                # Objects are pickled, and nothing here unpickles them.
                if dtype.hasobject:
                    found[info.filename.removesuffix(".npy")] = (shape, "O")
                    continue
                wanted = math.prod(shape) * dtype.itemsize
                if held != wanted:
                    raise DamagedError(f"its array {info.filename} has {held} bytes, not the {wanted} of its header")
                found[info.filename.removesuffix(".npy")] = (shape, dtype.kind)
    except MISSING:
        raise DamagedError("the file is missing") from None
    except DamagedError:
        raise
    except (RuntimeError, *BAD_ARRAY) as error:  # a RuntimeError asks for a password
        raise DamagedError(f"it is not an .npz file, or a damaged one: {error}") from None
    except OSError as error:
        raise read_error(f"{files.uri}/{path}", error) from None
    return found


def load_array(files: Files, path: str, name: str) -> Any:
    """An array of an `.npz` file. Raises DamagedError, and SourceError if it cannot be fetched."""
    try:
        with files.open(path) as file, open_npz(file) as arrays:
            return arrays[name]
    except MISSING:
        raise DamagedError("the file is missing") from None
    except OSError as error:
        raise read_error(f"{files.uri}/{path}", error) from None


def texts_of(values: Any) -> list[str]:
    """A single value, or those of a list, as text."""
    return [decode_text(value) if isinstance(value, bytes) else str(value) for value in np.asarray(values).ravel()]
