"""LIBERO and others in robomimic's layout: HDF5 files with demonstrations `data/demo_*`."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import IO, Any

import h5py
import numpy as np

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import MISSING, Columns, picture
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import Damaged, Part, Raw, required
from roboalign.sources.readers.spec import LiberoSpec
from roboalign.types import Json, UInt8

PATTERNS = ("**/*.hdf5", "**/*.h5")
FEW = 16
"""With no more files than this, each is divided into parts, so that all workers have something to do."""
DEMONSTRATIONS = 50
"""Demonstrations of a part where files are divided."""
UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, MemoryError)
"""What h5py raises on damaged files; DamagedError and SourceError, which are ValueErrors, are caught before."""
CHUNKS = 64 * 2**20
"""Bytes of HDF5's chunk cache: compressed chunks of many pictures are unpacked once, not once a picture."""
LONGEST = 2000
"""Characters of an attribute; longer ones (whole scene descriptions) are not attributes to choose episodes by."""


class Libero:
    """The demonstrations of all HDF5 files below a folder."""

    def __init__(self, spec: LiberoSpec, files: Files) -> None:
        self.spec = spec
        self.files = files

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self.spec.fps

    def paths(self) -> list[str]:
        """The HDF5 files, relative to the URI. Raises SourceError where there are none."""
        if found := sorted(path for pattern in PATTERNS for path in self.files.glob(pattern)):
            return found
        raise SourceError(f"{self.files.uri} holds no file {' or '.join(PATTERNS)}; correct `uri`")

    def parts(self) -> list[Part]:
        """A part a file; of few files, some demonstrations each."""
        paths = self.paths()
        if len(paths) > FEW:
            return [Part(path) for path in paths]
        return [part for path in paths for part in self._divided(path)]

    def _divided(self, path: str) -> list[Part]:
        try:
            with opened(self.files, path) as (file, _):
                count = len(demonstrations(file))
        except DamagedError:  # `read` says so again, where it is quarantined
            return [Part(path)]
        return [Part(path, first, first + DEMONSTRATIONS) for first in range(0, max(1, count), DEMONSTRATIONS)]

    def read(self, part: Part) -> Iterator[Raw | Damaged]:
        """The demonstrations of a file, by number."""
        try:
            with opened(self.files, part.path) as (file, stream):
                known = {"file": part.path, "folder": str(PurePosixPath(part.path).parent)} | attributes(file["data"])
                for name in demonstrations(file)[part.first : part.stop]:
                    where = f"{part.path}#{name}"
                    try:
                        yield self._raw(where, part.path, file["data"][name], known, stream)
                    except DamagedError as error:
                        yield Damaged(where, str(error))
                    except UNREADABLE as error:
                        stream.refuse(where)
                        yield Damaged(where, f"HDF5 cannot read it: {error}")
        except DamagedError as error:
            yield Damaged(part.path, str(error))
        except SourceError:
            raise
        except UNREADABLE as error:
            yield Damaged(part.path, f"HDF5 cannot read it: {error}")

    def _raw(self, where: str, path: str, group: Any, known: dict[str, str], stream: "Watched") -> Raw:
        if not isinstance(group, h5py.Group):
            raise DamagedError("it is no group with data sets")
        arrays = data_sets(group)
        shapes = {key: array.shape for key, array in arrays.items()}
        first = self.spec.actions[0].key
        # Without its pictures an episode still has a length, and may be one that the filter leaves out.
        key = self.spec.camera if self.spec.camera in shapes else first
        required(shapes, key, "camera" if first not in shapes else "action column")
        recorded = shapes[key][0] if shapes[key] else 0
        self._agree(group, known, recorded)
        # Where a picture was taken after its step's action, the next step's action is the one that leads on from it,
        # and from the last picture none does.
        late = int(self.spec.after_action and recorded > 0)
        chosen = known | attributes(group)

        def column(name: str) -> Any:
            rows = shapes[name][0]
            if rows != recorded:
                raise DamagedError(f"its '{name}' has {rows} rows, but there are {recorded} of '{key}'")
            try:
                return arrays[name][late:]
            except UNREADABLE as error:
                stream.refuse(where)
                raise DamagedError(f"its '{name}' cannot be read: {error}") from None

        def pictures(steps: Sequence[int]) -> Iterator[UInt8]:
            required(shapes, self.spec.camera, "camera")
            array = arrays[self.spec.camera]
            for step in steps:
                try:
                    found = picture(array[step], self.spec.camera)
                except DamagedError:
                    raise
                except UNREADABLE as error:
                    stream.refuse(where)
                    raise DamagedError(f"its picture {step} of '{self.spec.camera}' cannot be read: {error}") from None
                yield found[::-1] if self.spec.upside_down else found

        numeric = [name for name, array in arrays.items() if array.ndim in (1, 2)]
        return Raw(
            name=where,
            length=recorded - late,
            pictures=pictures,
            columns=Columns(numeric, column),
            instruction=chosen.get(self.spec.instruction_field, ""),
            attributes=chosen,
            task=PurePosixPath(path).stem.removesuffix("_demo"),
        )

    def _agree(self, group: Any, known: Mapping[str, str], recorded: int) -> None:
        """Raise DamagedError where the file's own account of rate or length differs from what is there."""
        rate = known.get("env_args/env_kwargs/control_freq")
        if rate is not None and float(rate) != self.spec.fps:
            raise DamagedError(f"it was recorded at {float(rate):g} frames a second, but fps is {self.spec.fps:g}")
        told = group.attrs.get("num_samples")
        if told is not None and int(told) != recorded:
            raise DamagedError(f"its attribute num_samples says {int(told)}, but it holds {recorded} steps")


@contextmanager
def opened(files: Files, path: str) -> Iterator[tuple[Any, "Watched"]]:
    """An HDF5 file in robomimic's layout, and the stream below it.

    Raises DamagedError where it is none, SourceError where reading fails.
    """
    try:
        stream = Watched(files.open(path))
    except MISSING:
        raise DamagedError("the file is missing") from None
    except OSError as error:
        raise SourceError(f"{files.uri}/{path} cannot be fetched: {error}; run it again") from None
    with stream.stream:
        try:
            file = h5py.File(stream, "r", rdcc_nbytes=CHUNKS)
        except UNREADABLE as error:
            stream.refuse(path)
            raise DamagedError(f"it is no HDF5 file, or a truncated one: {error}") from None
        with file:
            try:
                there = ", ".join(file) or "nothing"
                names = demonstrations(file) if isinstance(file.get("data"), h5py.Group) else None
            except UNREADABLE as error:
                stream.refuse(path)
                raise DamagedError(f"HDF5 cannot read it: {error}") from None
            if names is None:
                raise DamagedError(f"it has no group 'data' with demonstrations; there is: {there}")
            if not names:
                raise DamagedError("its group 'data' is empty: it has no demonstration demo_*")
            yield file, stream


class Watched:
    """A file that remembers why it could not be read: HDF5 reports a lost connection like a damaged file."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.error: Exception | None = None

    def refuse(self, path: str) -> None:
        """Raise SourceError where reading failed for a reason that lies outside the file."""
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


def demonstrations(file: Any) -> list[str]:
    """The names of the groups in `data`, by the numbers in them: demo_2 before demo_10."""
    return sorted((name for name in file["data"]), key=lambda name: (number(name), name))


def number(name: str) -> int:
    """The number at the end of a name; -1 where there is none."""
    found = re.search(r"(\d+)$", name)
    return int(found.group(1)) if found else -1


def data_sets(group: Any) -> dict[str, Any]:
    """All data sets of a demonstration, by path."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    group.visititems(note)
    return found


def attributes(group: Any) -> dict[str, str]:
    """The attributes of a group as text; JSON objects and lists are taken apart."""
    result: dict[str, str] = {}
    for key, value in group.attrs.items():
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        if isinstance(text, str) and text[:1] in ("{", "["):
            with suppress(ValueError):
                text = json.loads(text)
        result |= flattened(key, text)
    return result


def flattened(key: str, value: Json) -> dict[str, str]:
    """A JSON value's texts and numbers by path. A list of words, or of letters, is one text: so LIBERO writes some of
    its instructions, others in quotes."""
    if isinstance(value, dict):
        return {name: text for part, item in value.items() for name, text in flattened(f"{key}/{part}", item).items()}
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = ("" if all(len(item) == 1 for item in value) else " ").join(value)
    if isinstance(value, str | bool | int | float | np.number | np.bool_) and len(str(value)) <= LONGEST:
        return {key: str(value).strip('"')}
    return {}
