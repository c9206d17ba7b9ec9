"""LIBERO and others in robomimic's layout: HDF5 files with demonstrations `data/demo_*`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import STEPS, VALUES, Columns, picture
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.hdf5 import (
    PATTERNS,
    UNREADABLE,
    Watched,
    attribute_values,
    check_picture_size,
    check_storage,
    data_sets,
    member,
    open_hdf5,
)
from roboalign.sources.readers.reader import Damaged, Part, Raw, require_key
from roboalign.sources.readers.spec import LiberoSpec
from roboalign.sources.readers.text import parse_json
from roboalign.types import Json, UInt8

FEW = 16
"""With no more files than this, each is divided into parts, so that all workers have something to do."""
DEMONSTRATIONS = 50
"""Demonstrations of a part if files are divided."""
LONGEST = 2000
"""Characters of an attribute; longer ones (whole scene descriptions) are not attributes to choose episodes by."""
OTHER_LENGTH = "its attribute num_samples is not the number of its steps"
"""A warning."""


class Libero:
    """The demonstrations of all HDF5 files below a folder."""

    def __init__(self, spec: LiberoSpec, files: Files) -> None:
        self.spec = spec
        self.files = files
        self.camera = spec.cameras[0]

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self.spec.fps

    def paths(self) -> list[str]:
        """The HDF5 files, relative to the URI. Raises SourceError if there are none."""
        if found := sorted(path for pattern in PATTERNS for path in self.files.glob(pattern)):
            return found
        raise SourceError(f"{self.files.uri} holds no file {' or '.join(PATTERNS)}; correct `uri`")

    def parts(self) -> list[Part]:
        """A part a file; of few files, some demonstrations each."""
        paths = self.paths()
        if len(paths) > FEW:
            return [Part(path) for path in paths]
        return [part for path in paths for part in self._divide(path)]

    def _divide(self, path: str) -> list[Part]:
        try:
            with open_demonstrations(self.files, path) as (file, _):
                count = len(demonstrations(file))
        except DamagedError:  # `read` says so again, and it is quarantined
            return [Part(path)]
        return [Part(path, first, first + DEMONSTRATIONS) for first in range(0, max(1, count), DEMONSTRATIONS)]

    def read(self, part: Part) -> Iterator[Raw | Damaged]:
        """The demonstrations of a file, by number."""
        try:
            with open_demonstrations(self.files, part.path) as (file, stream):
                data = member(file, "data")
                known = {"file": part.path, "folder": str(PurePosixPath(part.path).parent)} | attributes(data)
                stream.refuse(part.path)
                for name in demonstrations(file)[part.first : part.stop]:
                    place = f"{part.path}#{name}"
                    try:
                        yield self._raw(place, part.path, member(data, name), known, stream)
                    except DamagedError as error:
                        yield Damaged(place, str(error))
                    except UNREADABLE as error:
                        stream.refuse(place)
                        yield Damaged(place, f"HDF5 cannot read it: {error}")
        except DamagedError as error:
            yield Damaged(part.path, str(error))

    def _raw(self, place: str, path: str, group: Any, known: dict[str, str], stream: Watched) -> Raw:
        if not isinstance(group, h5py.Group):
            raise DamagedError("it is not a group with data sets")
        arrays = data_sets(group)
        for name in sorted({self.camera, *self.spec.vector_keys} & set(arrays)):
            check_storage(arrays[name], name)
        # The others are not read; but to ask for the shape of a virtual one would open its files.
        arrays = {name: array for name, array in arrays.items() if not array.is_virtual}
        shapes: dict[str, tuple[int, ...]] = {name: array.shape or () for name, array in arrays.items()}
        first = self.spec.actions[0].key
        # Without its pictures an episode still has a length, and may be one that the filter leaves out.
        key = self.camera if self.camera in shapes else first
        require_key(shapes, key, "camera" if first not in shapes else "action column")
        recorded = shapes[key][0] if shapes[key] else 0
        if recorded > STEPS:
            raise DamagedError(f"its '{key}' has {recorded} rows, more than {STEPS}")
        self._check_rate(known)
        # Where a picture was taken after its step's action, the next step's action is the one that leads on from it,
        # and from the last picture none does.
        late = int(self.spec.after_action and recorded > 0)
        chosen = known | attributes(group)

        def column(name: str) -> Any:
            rows = shapes[name][0]
            if rows != recorded:
                raise DamagedError(f"its '{name}' has {rows} rows, but there are {recorded} of '{key}'")
            if arrays[name].size > VALUES:
                raise DamagedError(f"its '{name}' has {arrays[name].size} numbers, more than {VALUES}")
            try:
                return arrays[name][late:]
            except UNREADABLE as error:
                stream.refuse(place)
                raise DamagedError(f"its '{name}' cannot be read: {error}") from None

        def pictures(steps: Sequence[int]) -> Iterator[UInt8]:
            require_key(shapes, self.camera, "camera")
            array = arrays[self.camera]
            check_picture_size(shapes[self.camera], self.camera)
            for step in steps:
                try:
                    found = picture(array[step], self.camera)
                except UNREADABLE as error:
                    stream.refuse(place)
                    raise DamagedError(f"its picture {step} of '{self.camera}' cannot be read: {error}") from None
                yield found[::-1] if self.spec.upside_down else found

        numeric = [name for name, shape in shapes.items() if len(shape) in (1, 2)]
        return Raw(
            name=place,
            length=recorded - late,
            pictures=pictures,
            columns=Columns(numeric, column),
            instruction=chosen.get(self.spec.instruction_field, ""),
            attributes=chosen,
            task=PurePosixPath(path).stem.removesuffix("_demo"),
            warnings=[OTHER_LENGTH] if chosen.get("num_samples", str(recorded)) != str(recorded) else [],
        )

    def _check_rate(self, known: Mapping[str, str]) -> None:
        """Raise DamagedError if the file tells another frame rate than the spec."""
        with suppress(ValueError):  # what is no number tells nothing
            rate = float(known.get("env_args/env_kwargs/control_freq", self.spec.fps))
            if rate != self.spec.fps:
                raise DamagedError(f"it was recorded at {rate:g} frames a second, but fps is {self.spec.fps:g}")


@contextmanager
def open_demonstrations(files: Files, path: str) -> Iterator[tuple[Any, Watched]]:
    """An HDF5 file in robomimic's layout, and the stream below it.

    Raises DamagedError if it is none, SourceError if reading fails.
    """
    with open_hdf5(files, path) as (file, stream):
        if not isinstance(member(file, "data"), h5py.Group):
            raise DamagedError(f"it has no group 'data' with demonstrations; there is: {', '.join(file) or 'nothing'}")
        if not demonstrations(file):
            raise DamagedError("its group 'data' is empty: it has no demonstration demo_*")
        yield file, stream


def demonstrations(file: Any) -> list[str]:
    """The names of the groups in `data`, by the numbers in them: demo_2 before demo_10."""
    return sorted(member(file, "data"), key=lambda name: (number(name), name))


def number(name: str) -> int:
    """The number at the end of a name; -1 if there is none."""
    found = re.search(r"([0-9]{1,18})$", name)
    return int(found.group(1)) if found else -1


def attributes(group: Any) -> dict[str, str]:
    """The attributes of a group as text; JSON objects and lists are taken apart."""
    result: dict[str, str] = {}
    for key, text in attribute_values(group):
        if isinstance(text, str) and text[:1] in ("{", "["):
            with suppress(ValueError):
                text = parse_json(text.encode("utf-8", "surrogateescape"))
        with suppress(ValueError, RecursionError):
            result |= flatten(key, text)
    return result


def flatten(key: str, value: Json) -> dict[str, str]:
    """A JSON value's texts and numbers by path. A list of words, or of letters, is one text: so LIBERO writes some of
    its instructions, others in quotes."""
    if isinstance(value, dict):
        return {name: text for part, item in value.items() for name, text in flatten(f"{key}/{part}", item).items()}
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = ("" if all(len(item) == 1 for item in value) else " ").join(value)
    if isinstance(value, str | bool | int | float | np.number | np.bool_) and len(str(value)) <= LONGEST:
        return {key: str(value).strip('"')}
    return {}
