"""MessagePack with numpy arrays, as openpi's policy servers and clients exchange them.

An array is a mapping of `__ndarray__`, `data`, `dtype` and `shape`, a numpy scalar one of `__npgeneric__`, `data` and
`dtype`, with byte strings as keys. Received data are not trusted: only numbers are built, and sizes must fit.
"""

import math
from typing import Any

import msgpack
import numpy as np

KINDS = "biuf"
"""Kinds of numpy types that may be exchanged: booleans, integers, floats. Objects would be pickled."""


def pack(value: Any) -> bytes:
    """Encode mappings, lists, texts, numbers and numpy arrays. Raises TypeError for other values."""
    packed = msgpack.packb(value, default=_encode)
    return bytes(packed)


def unpack(data: bytes) -> Any:
    """Decode what `pack` or openpi encoded. Raises ValueError if the data are damaged."""
    try:
        return msgpack.unpackb(data, object_hook=_decode)
    except (msgpack.UnpackException, msgpack.ExtraData, TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the data are not valid MessagePack with numpy arrays ({error or type(error).__name__})"
        ) from (None)


def _encode(value: Any) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in KINDS:
        raise TypeError(f"arrays of {value.dtype} cannot be sent; convert them to numbers")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _decode(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        dtype, shape = _dtype(value[b"dtype"]), tuple(int(side) for side in value[b"shape"])
        data = value[b"data"]
        if any(side < 0 for side in shape) or len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} does not have {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape)
    if b"__npgeneric__" in value:
        return _dtype(value[b"dtype"]).type(value[b"data"])
    return value


def _dtype(name: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(name)
    if dtype.kind not in KINDS:
        raise ValueError(f"arrays of {dtype} are not accepted")
    return dtype
