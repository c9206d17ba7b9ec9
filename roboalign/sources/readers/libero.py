"""Reads HDF5 files in the layout of LIBERO and robomimic, with demonstrations `data/demo_*`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import STEPS, VALUES, Columns, as_image
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.hdf5 import (
    PATTERNS,
    UNREADABLE,
    ErrorRecordingStream,
    attribute_values,
    check_image_size,
    check_storage,
    data_sets,
    member,
    open_hdf5,
)
from roboalign.sources.readers.reader import Damaged, Part, RawEpisode, require_key
from roboalign.sources.readers.spec import LiberoSpec
from roboalign.sources.readers.text import parse_json
from roboalign.types import Json, UInt8

FEW = 16
"""Largest number of files that are divided into parts, so that all workers are used."""
DEMONSTRATIONS = 50
"""Number of demonstrations in a part of a divided file."""
LONGEST = 2000
"""Largest length of an attribute in characters; longer ones, such as scene descriptions, are ignored."""
OTHER_LENGTH = "its attribute num_samples is not the number of its steps"
"""Warning for a wrong num_samples."""


class Libero:
    """Reads the demonstrations of all HDF5 files below a folder."""

    def __init__(self, spec: LiberoSpec, files: Files) -> None:
        self.spec = spec
        self.files = files
        self.camera = spec.cameras[0]

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self.spec.fps

    def paths(self) -> list[str]:
        """Return the paths of the HDF5 files relative to the URI. Raises SourceError if there are none."""
        if found := sorted(path for pattern in PATTERNS for path in self.files.glob(pattern)):
            return found
        raise SourceError(f"{self.files.uri} contains no file {' or '.join(PATTERNS)}; correct `uri`")

    def parts(self) -> list[Part]:
        """Return the parts: one per file, or several per file if there are few files."""
        paths = self.paths()
        if len(paths) > FEW:
            return [Part(path) for path in paths]
        return [part for path in paths for part in self._divide(path)]

    def _divide(self, path: str) -> list[Part]:
        try:
            with open_demonstrations(self.files, path) as (file, _):
                count = len(demonstrations(file))
        except DamagedError:  # `read` raises it again and quarantines the file
            return [Part(path)]
        return [Part(path, first, first + DEMONSTRATIONS) for first in range(0, max(1, count), DEMONSTRATIONS)]

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the demonstrations of a part, in numeric order."""
        try:
            with open_demonstrations(self.files, part.path) as (file, stream):
                data = member(file, "data")
                file_attributes = {"file": part.path, "folder": str(PurePosixPath(part.path).parent)} | attributes(data)
                stream.refuse(part.path)
                for name in demonstrations(file)[part.first : part.stop]:
                    name_of_episode = f"{part.path}#{name}"
                    try:
                        yield self._raw(name_of_episode, part.path, member(data, name), file_attributes, stream)
                    except DamagedError as error:
                        yield Damaged(name_of_episode, str(error))
                    except UNREADABLE as error:
                        stream.refuse(name_of_episode)
                        yield Damaged(name_of_episode, f"HDF5 cannot read it: {error}")
        except DamagedError as error:
            yield Damaged(part.path, str(error))

    def _raw(
        self, name_of_episode: str, path: str, group: Any, file_attributes: dict[str, str], stream: ErrorRecordingStream
    ) -> RawEpisode:
        if not isinstance(group, h5py.Group):
            raise DamagedError("it is not a group with data sets")
        arrays = data_sets(group)
        for name in sorted({self.camera, *self.spec.vector_keys} & set(arrays)):
            check_storage(arrays[name], name)
        # Virtual data sets are skipped: even querying their shape would open other files.
        arrays = {name: array for name, array in arrays.items() if not array.is_virtual}
        shapes: dict[str, tuple[int, ...]] = {name: array.shape or () for name, array in arrays.items()}
        first = self.spec.actions[0].key
        # An episode without images still has a length and may be left out by the filter.
        key = self.camera if self.camera in shapes else first
        require_key(shapes, key, "camera" if first not in shapes else "action column")
        recorded = shapes[key][0] if shapes[key] else 0
        if recorded > STEPS:
            raise DamagedError(f"its '{key}' has {recorded} rows, more than {STEPS}")
        self._check_rate(file_attributes)
        # If an image was taken after its step's action, the next step's action follows it, and none follows the last
        # image.
        offset = int(self.spec.after_action and recorded > 0)
        attributes_of_episode = file_attributes | attributes(group)

        def column(name: str) -> Any:
            rows = shapes[name][0]
            if rows != recorded:
                raise DamagedError(f"its '{name}' has {rows} rows, but there are {recorded} of '{key}'")
            if arrays[name].size > VALUES:
                raise DamagedError(f"its '{name}' has {arrays[name].size} numbers, more than {VALUES}")
            try:
                return arrays[name][offset:]
            except UNREADABLE as error:
                stream.refuse(name_of_episode)
                raise DamagedError(f"its '{name}' cannot be read: {error}") from None

        def images(steps: Sequence[int]) -> Iterator[UInt8]:
            require_key(shapes, self.camera, "camera")
            array = arrays[self.camera]
            check_image_size(shapes[self.camera], self.camera)
            for step in steps:
                try:
                    image = as_image(array[step], self.camera)
                except UNREADABLE as error:
                    stream.refuse(name_of_episode)
                    raise DamagedError(f"its image {step} of '{self.camera}' cannot be read: {error}") from None
                yield image[::-1] if self.spec.upside_down else image

        numeric = [name for name, shape in shapes.items() if len(shape) in (1, 2)]
        return RawEpisode(
            name=name_of_episode,
            length=recorded - offset,
            images=images,
            columns=Columns(numeric, column),
            instruction=attributes_of_episode.get(self.spec.instruction_field, ""),
            attributes=attributes_of_episode,
            task=PurePosixPath(path).stem.removesuffix("_demo"),
            warnings=[OTHER_LENGTH] if attributes_of_episode.get("num_samples", str(recorded)) != str(recorded) else [],
        )

    def _check_rate(self, file_attributes: Mapping[str, str]) -> None:
        """Raise DamagedError if the file declares another frame rate than the spec."""
        with suppress(ValueError):  # not a number
            rate = float(file_attributes.get("env_args/env_kwargs/control_freq", self.spec.fps))
            if rate != self.spec.fps:
                raise DamagedError(f"it was recorded at {rate:g} frames per second, but fps is {self.spec.fps:g}")


@contextmanager
def open_demonstrations(files: Files, path: str) -> Iterator[tuple[Any, ErrorRecordingStream]]:
    """Open an HDF5 file in robomimic's layout; yields the file and the underlying stream.

    Raises DamagedError if the file has another layout, SourceError if it cannot be fetched.
    """
    with open_hdf5(files, path) as (file, stream):
        if not isinstance(member(file, "data"), h5py.Group):
            raise DamagedError(f"it has no group 'data' with demonstrations; available: {', '.join(file) or 'nothing'}")
        if not demonstrations(file):
            raise DamagedError("its group 'data' is empty: it has no demonstration demo_*")
        yield file, stream


def demonstrations(file: Any) -> list[str]:
    """Return the names of the groups in `data` in numeric order: demo_2 before demo_10."""
    return sorted(member(file, "data"), key=lambda name: (number(name), name))


def number(name: str) -> int:
    """Return the number at the end of a name; -1 if there is none."""
    match = re.search(r"([0-9]{1,18})$", name)
    return int(match.group(1)) if match else -1


def attributes(group: Any) -> dict[str, str]:
    """Return the attributes of a group as text; JSON objects and lists are flattened."""
    result: dict[str, str] = {}
    for key, text in attribute_values(group):
        if isinstance(text, str) and text[:1] in ("{", "["):
            with suppress(ValueError):
                text = parse_json(text.encode("utf-8", "surrogateescape"))
        with suppress(ValueError, RecursionError):
            result |= flatten(key, text)
    return result


def flatten(key: str, value: Json) -> dict[str, str]:
    """Flatten a JSON value to texts by path.

    A list of words or of letters is joined into one text, and quotes are removed: LIBERO writes some instructions this
    way.
    """
    if isinstance(value, dict):
        return {name: text for part, item in value.items() for name, text in flatten(f"{key}/{part}", item).items()}
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = ("" if all(len(item) == 1 for item in value) else " ").join(value)
    if isinstance(value, str | bool | int | float | np.number | np.bool_) and len(str(value)) <= LONGEST:
        return {key: str(value).strip('"')}
    return {}
