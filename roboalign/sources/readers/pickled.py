"""Pickled dicts in `.npy` files, read without running anything that they name.

CALVIN keeps its annotations so. A pickle names functions that the ordinary unpickler calls, whatever they are. Here
every name but numpy's ways to spell arrays and scalars is refused, and these are answered by records of this module,
from which the arrays are made afterwards: no code of a file's choosing runs. A scan of the opcodes comes first.
"""

import io
import math
import pickle
import re
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.arrays import BAD_ARRAY, BYTES
from roboalign.sources.readers.pickle_scan import scan

KINDS = re.compile(r"[<>|=]?([biufcSU]\d*|\?)")
"""The dtypes that are admitted beside objects: numbers and texts."""
DEEPEST = 16
"""Levels of lists and dicts in each other."""


class _Dtype:
    """A dtype as a pickle spells it: its code, and later its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        _, order, *parts = state
        if any(part is not None for part in parts[:3]):
            raise pickle.UnpicklingError("a dtype with fields, which is not expected here")
        self.order = order

    def build(self) -> "np.dtype[Any] | None":
        """The dtype; None for objects."""
        if self.code in ("O", "O8"):
            return None
        if not isinstance(self.code, str) or not KINDS.fullmatch(self.code) or self.order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"the dtype {str(self.code)[:40]!r}, which is not expected here")
        return np.dtype(self.order + self.code.lstrip("<>|="))


class _Array:
    """An array as a pickle spells it."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _ndarray(*_: Any) -> Any:
    raise pickle.UnpicklingError("numpy.ndarray called as a function")


class _Scalar:
    """A number as a pickle spells it."""

    def __init__(self, dtype: Any, data: Any = b"") -> None:
        self.dtype = dtype
        self.data = data


class _Buffer:
    """An array as a pickle of protocol 5 spells it."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.state = (1, shape, dtype, order == "F", data)


class _Text:
    """Bytes as a pickle of protocol 2 spells them: as text, and the name of its encoding."""

    def __init__(self, text: Any, encoding: Any = "latin1") -> None:
        if encoding != "latin1" or not isinstance(text, str):
            raise pickle.UnpicklingError("bytes in an encoding that is not expected here")
        self.data = text.encode("latin1")


class _Function:
    """What a pickle gets for a name: it can be called and handed on, and nothing can be set on it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it would change a function")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _ndarray,
    ("_codecs", "encode"): _Text,
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED |= {
        (f"{_core}.multiarray", "_reconstruct"): _Array,
        (f"{_core}.multiarray", "scalar"): _Scalar,
        (f"{_core}.numeric", "_frombuffer"): _Buffer,
    }


class _Unpickler(pickle.Unpickler):
    """Knows numpy's names alone."""

    def find_class(self, module: str, name: str) -> Any:
        """The record for a name. Raises UnpicklingError for all that are not admitted."""
        try:
            return _Function(_ADMITTED[module, name])
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not called") from None

    def persistent_load(self, pid: Any) -> Any:
        """Refused."""
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_pickled(file: IO[bytes]) -> Any:
    """The object in an `.npy` file that holds a single one: dicts, lists, texts, numbers and arrays of them.

    Raises DamagedError if the file is no such one, is truncated, or names anything else; nothing it names is called.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    except BAD_ARRAY as error:
        raise DamagedError(f"it is not an .npy file: {error}") from None
    if dtype != np.dtype(object) or math.prod(shape) != 1:
        raise DamagedError(f"it holds {dtype} {shape}, not one pickled object")
    try:
        data = file.read(BYTES + 1)
        if len(data) > BYTES:
            raise pickle.UnpicklingError(f"it has more than {BYTES} bytes")
        scan(data)
        found = _Maker().build(_Unpickler(io.BytesIO(data)).load())
    except (pickle.UnpicklingError, ImportError, *BAD_ARRAY) as error:
        raise DamagedError(f"its pickle is refused: {error or type(error).__name__}") from None
    return found.reshape(-1)[0] if isinstance(found, np.ndarray) and found.size == 1 else found


class _Maker:
    """Turns records into arrays, numbers and bytes. What a pickle refers to many times is made once: nested
    references cannot grow into more than the file holds."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, Any]] = {}

    def build(self, value: Any, depth: int = 0) -> Any:
        """The value without records."""
        if value is None or isinstance(value, str | bytes | bytearray | bool | int | float | complex):
            return value
        if id(value) not in self.known:
            if depth > DEEPEST:
                raise pickle.UnpicklingError(f"nested deeper than {DEEPEST} levels")
            # The value is kept beside what was made of it, so that no other one takes its id.
            self.known[id(value)] = value, self.container(value, depth + 1)
        return self.known[id(value)][1]

    def container(self, value: Any, depth: int) -> Any:
        """A container or record."""
        match value:
            case dict():
                return {self.build(key, depth): self.build(item, depth) for key, item in value.items()}
            case list():
                return [self.build(item, depth) for item in value]
            case tuple():
                return tuple(self.build(item, depth) for item in value)
            case _Text():
                return value.data
            case _Scalar():
                return self.array((1, (), value.dtype, False, value.data), depth).item()
            case _Array() | _Buffer():
                return self.array(value.state, depth)
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__.strip('_')} where a value should be")

    def array(self, state: Any, depth: int) -> Any:
        """The array of (version, shape, dtype, Fortran order, data)."""
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("an array without a dtype")
        kind = dtype.build()
        if kind is None:
            if not isinstance(data, list) or len(data) != math.prod(shape):
                raise pickle.UnpicklingError("an array of objects whose number is not that of its shape")
            result = np.empty(len(data), object)
            for index, item in enumerate(data):
                result[index] = self.build(item, depth)
        else:
            data = data.data if isinstance(data, _Text) else data
            if not isinstance(data, bytes | bytearray):
                raise pickle.UnpicklingError("an array without data")
            result = np.frombuffer(bytes(data), kind)
        return result.reshape(shape, order="F" if fortran else "C")
