"""Reads pickled dicts in `.npy` files without executing any code that they name.

CALVIN stores its annotations this way. A pickle names functions that the standard unpickler calls, whatever they are.
Here all names are rejected except those by which numpy stores arrays and scalars; these are mapped to records of this
module, from which the arrays are built afterwards. The opcodes are scanned first.
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
"""Allowed dtypes other than objects: numbers and texts."""
DEEPEST = 16
"""Largest nesting depth of lists and dicts."""


class _Dtype:
    """Record of a pickled dtype: its code and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        _, order, *parts = state
        if any(part is not None for part in parts[:3]):
            raise pickle.UnpicklingError("a dtype with fields, which is not expected here")
        self.order = order

    def build(self) -> "np.dtype[Any] | None":
        """Return the dtype; None for objects."""
        if self.code in ("O", "O8"):
            return None
        if not isinstance(self.code, str) or not KINDS.fullmatch(self.code) or self.order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"the dtype {str(self.code)[:40]!r}, which is not expected here")
        return np.dtype(self.order + self.code.lstrip("<>|="))


class _Array:
    """Record of a pickled array."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _ndarray(*_: Any) -> Any:
    raise pickle.UnpicklingError("numpy.ndarray called as a function")


class _Scalar:
    """Record of a pickled scalar."""

    def __init__(self, dtype: Any, data: Any = b"") -> None:
        self.dtype = dtype
        self.data = data


class _Buffer:
    """Record of an array that was pickled with protocol 5."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.state = (1, shape, dtype, order == "F", data)


class _Text:
    """Record of bytes that were pickled with protocol 2, as text and the name of its encoding."""

    def __init__(self, text: Any, encoding: Any = "latin1") -> None:
        if encoding != "latin1" or not isinstance(text, str):
            raise pickle.UnpicklingError("bytes in an encoding that is not expected here")
        self.data = text.encode("latin1")


class _Function:
    """Replacement for a named function: it can be called and passed on, but not modified."""

    __slots__ = ("_function",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._function = make

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

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
    """Unpickler that resolves only numpy's names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the record class for a name. Raises UnpicklingError if the name is not allowed."""
        try:
            return _Function(_ADMITTED[module, name])
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed") from None

    def persistent_load(self, pid: Any) -> Any:
        """Raise UnpicklingError."""
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_pickled(file: IO[bytes]) -> Any:
    """Read an `.npy` file with a single pickled object: dicts, lists, texts, numbers, and arrays of them.

    Raises DamagedError if the file has another content, is truncated, or names anything else, which is never called.
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
        raise DamagedError(f"it contains {dtype} {shape}, not one pickled object")
    try:
        data = file.read(BYTES + 1)
        if len(data) > BYTES:
            raise pickle.UnpicklingError(f"it has more than {BYTES} bytes")
        scan(data)
        value = _RecordConverter().build(_Unpickler(io.BytesIO(data)).load())
    except (pickle.UnpicklingError, ImportError, *BAD_ARRAY) as error:
        raise DamagedError(f"its pickle is refused: {error or type(error).__name__}") from None
    return value.reshape(-1)[0] if isinstance(value, np.ndarray) and value.size == 1 else value


class _RecordConverter:
    """Converts records to arrays, numbers and bytes.

    A value that is referenced many times is converted once, so that nested references cannot expand beyond the size of
    the file.
    """

    def __init__(self) -> None:
        self.converted: dict[int, tuple[Any, Any]] = {}

    def build(self, value: Any, depth: int = 0) -> Any:
        """Convert a value, recursively."""
        if value is None or isinstance(value, str | bytes | bytearray | bool | int | float | complex):
            return value
        if id(value) not in self.converted:
            if depth > DEEPEST:
                raise pickle.UnpicklingError(f"nested deeper than {DEEPEST} levels")
            # The value is stored with its conversion, so that its id is not reused.
            self.converted[id(value)] = value, self.container(value, depth + 1)
        return self.converted[id(value)][1]

    def container(self, value: Any, depth: int) -> Any:
        """Convert a container or a record."""
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
        raise pickle.UnpicklingError(f"it contains a {type(value).__name__.strip('_')} instead of a value")

    def array(self, state: Any, depth: int) -> Any:
        """Build the array of a state (version, shape, dtype, Fortran order, data)."""
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
