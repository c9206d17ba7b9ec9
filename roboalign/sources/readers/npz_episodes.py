"""Reads folders of `.npz` files with one episode each, as iVideoGPT and RLVR-World convert data sets."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.arrays import BAD_ARRAY, open_npz, read_error
from roboalign.sources.readers.columns import MISSING, STEPS, Columns, as_image
from roboalign.sources.readers.file_episodes import FileEpisodes
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import RawEpisode, change_warnings, require_key
from roboalign.sources.readers.spec import NpzEpisodesSpec
from roboalign.sources.readers.text import decode_text
from roboalign.types import UInt8

PATTERN = "**/*.npz"
LONGEST = 2000
"""Largest length of an attribute in characters."""


class NpzEpisodes(FileEpisodes):
    """Reads the episodes of a folder."""

    def __init__(self, spec: NpzEpisodesSpec, files: Files) -> None:
        super().__init__(files, [PATTERN], spec.fps, self.read_file)
        self.spec, self.files = spec, files
        self.camera = spec.cameras[0]

    def read_file(self, path: str) -> RawEpisode:
        """Read the episode of a file. Raises DamagedError."""
        shapes = array_shapes(self.files, path)
        first = self.spec.actions[0].key
        # An episode without images still has a length and may be left out by the filter.
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

        def images(steps: Sequence[int]) -> Iterator[UInt8]:
            require_key(shapes, self.camera, "camera")
            array = load_array(self.files, path, self.camera)
            for step in steps:
                yield as_image(array[step], self.camera)

        return RawEpisode(
            name=path,
            length=length,
            images=images,
            columns=Columns(numeric, column),
            instruction=attributes.get(self.spec.instruction_field, ""),
            attributes=attributes,
            instructions=instructions,
            warnings=change_warnings(instructions),
        )


def array_shapes(files: Files, path: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the shape and the dtype kind of each array of an `.npz` file, reading only the headers.

    Raises DamagedError if the file is invalid or an array does not have the size of its header; SourceError if it
    cannot be fetched.
    """
    shapes: dict[str, tuple[tuple[int, ...], str]] = {}
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
                    actual = info.file_size - member.tell()
                # Objects are pickled and are never loaded.
                if dtype.hasobject:
                    shapes[info.filename.removesuffix(".npy")] = (shape, "O")
                    continue
                expected = math.prod(shape) * dtype.itemsize
                if actual != expected:
                    raise DamagedError(
                        f"its array {info.filename} has {actual} bytes, not the {expected} of its header"
                    )
                shapes[info.filename.removesuffix(".npy")] = (shape, dtype.kind)
    except MISSING:
        raise DamagedError("the file is missing") from None
    except DamagedError:
        raise
    except (RuntimeError, *BAD_ARRAY) as error:  # a RuntimeError means that a password is needed
        raise DamagedError(f"it is not an .npz file, or a damaged one: {error}") from None
    except OSError as error:
        raise read_error(f"{files.uri}/{path}", error) from None
    return shapes


def load_array(files: Files, path: str, name: str) -> Any:
    """Load an array of an `.npz` file. Raises DamagedError if it is damaged, SourceError if it cannot be fetched."""
    try:
        with files.open(path) as file, open_npz(file) as arrays:
            return arrays[name]
    except MISSING:
        raise DamagedError("the file is missing") from None
    except OSError as error:
        raise read_error(f"{files.uri}/{path}", error) from None


def texts_of(values: Any) -> list[str]:
    """Return a single value, or each value of an array, as text."""
    return [decode_text(value) if isinstance(value, bytes) else str(value) for value in np.asarray(values).ravel()]
