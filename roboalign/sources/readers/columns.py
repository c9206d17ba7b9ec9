"""Lazily loaded columns of an episode, and validation of column values and images."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.store.media import PIXELS
from roboalign.types import Float32, UInt8

MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""Exceptions for a missing file. Any other OSError concerns the connection or the disk."""

STEPS = 1_000_000
"""Largest number of steps of an episode."""
VALUES = 2**26
"""Largest number of values in a column of an episode, or in a feature of a step."""
FPS = (0.01, 1000.0)
"""Smallest and largest plausible frame rate in frames per second."""


class Columns(Mapping[str, Float32]):
    """The numeric columns of an episode by name, each loaded on first access, which raises DamagedError if it is
    damaged."""

    def __init__(self, names: Iterable[str], load: Callable[[str], Any]) -> None:
        self._names = tuple(names)
        self._load = load
        self._loaded: dict[str, Float32] = {}

    def __getitem__(self, key: str) -> Float32:
        if key not in self._names:
            raise KeyError(key)
        if key not in self._loaded:
            self._loaded[key] = numbers(self._load(key), key)
        return self._loaded[key]

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def numbers(values: Any, key: str) -> Float32:
    """Convert values to float32. Raises DamagedError if they are not numeric; values out of range become infinite."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise DamagedError(f"its '{key}' is not a table of numbers: its rows differ in length") from None
    if array.ndim == 0:
        raise DamagedError(f"its '{key}' is a single value, not one row for each step")
    if array.dtype.kind not in "biuf":
        content = "text" if array.dtype.kind in "US" else f"values of type {array.dtype}"
        raise DamagedError(f"its '{key}' contains {content}, not numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def as_image(values: Any, key: str) -> UInt8:
    """Return an array as an image (H, W, 3), uint8. Raises DamagedError if it is not an image."""
    array = np.asarray(values)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not 0 < array.size <= 3 * PIXELS:
        raise DamagedError(f"its image '{key}' is {array.dtype} {array.shape}, not uint8 (height, width, 3)")
    return array
