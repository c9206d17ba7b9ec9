"""Parses `features.json` of TensorFlow Datasets: the features of an RLDS data set and their storage."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from roboalign.sources.errors import SourceError
from roboalign.sources.readers.columns import VALUES
from roboalign.types import Json

_NUMBERS = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Leaf:
    """One feature."""

    key: str
    """Name of the feature in an Example."""
    kind: Literal["tensor", "image", "text", "other"]
    shape: tuple[int, ...] = ()
    """Shape in one step; -1 for dimensions that vary."""
    dtype: str = ""
    encoding: str = "none"
    """Encoding of a tensor: none, bytes or zlib."""
    nested: int = 0
    """Number of nested sequences that contain the feature within a step."""

    @property
    def numeric(self) -> bool:
        """Whether it is a numeric tensor."""
        return self.kind == "tensor" and self.dtype in _NUMBERS

    @property
    def vector(self) -> bool:
        """Whether it can be read as one row of numbers per step."""
        fixed = self.encoding == "none" or (self.size >= 0 and not self.nested)
        return self.numeric and fixed and self.encoding in ("none", "bytes", "zlib")

    @property
    def textual(self) -> bool:
        """Whether it contains text: as a text feature, a tensor of strings, or a vector of character codes."""
        codes = self.numeric and len(self.shape) == 1 and np.dtype(self.dtype).kind in "iu"
        return self.kind == "text" or (self.kind == "tensor" and self.dtype in ("string", "object")) or codes

    @property
    def size(self) -> int:
        """Number of values in one step; -1 if it varies."""
        return -1 if min(self.shape, default=1) < 0 else math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Features:
    """The features of each step and of each episode, by name."""

    steps: dict[str, Leaf]
    episode: dict[str, Leaf]


def parse(document: Json, name: str) -> Features:
    """Parse the content of `features.json`. Raises SourceError if it does not describe episodes of steps."""
    try:
        top = document["featuresDict"]["features"]
        steps = top["steps"]
        inner = next(steps[kind] for kind in ("sequence", "dataset") if kind in steps)["feature"]
        step_leaves: dict[str, Leaf] = {}
        _collect(inner, "", "steps", 0, step_leaves)
        episode_leaves: dict[str, Leaf] = {}
        for key, value in top.items():
            if key != "steps":
                _collect(value, key, key, 0, episode_leaves)
        return Features(step_leaves, episode_leaves)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, RecursionError) as error:
        raise SourceError(
            f"{name} does not describe RLDS, which has a Dataset 'steps' in a FeaturesDict "
            f"({type(error).__name__}: {error}); it may have another format, or come from TFDS before version 4.5"
        ) from None


def _collect(node: Json, name: str, key: str, nested: int, leaves: dict[str, Leaf]) -> None:
    """Collect the leaf features below a node in `leaves`, with names relative to that of the node's root.

    A malformed feature is stored with the kind "other", which is an error only if the spec names it.
    """
    try:
        _collect_leaves(node, name, key, nested, leaves)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        leaves[name] = Leaf(key, "other")


def _collect_leaves(node: Json, name: str, key: str, nested: int, leaves: dict[str, Leaf]) -> None:
    if "featuresDict" in node:
        for part, value in node["featuresDict"]["features"].items():
            _collect(value, f"{name}/{part}".lstrip("/"), f"{key}/{part}", nested, leaves)
        return
    for kind in ("sequence", "dataset"):
        if kind in node:
            _collect(node[kind]["feature"], name, key, nested + 1, leaves)
            return
    if "image" in node:
        leaves[name] = Leaf(key, "image", _shape(node["image"]), str(node["image"].get("dtype", "uint8")), "", nested)
    elif "text" in node:
        leaves[name] = Leaf(key, "text", (), "string", "none", nested)
    elif "classLabel" in node:
        leaves[name] = Leaf(key, "tensor", (), "int64", "none", nested)
    elif "tensor" in node:
        tensor = node["tensor"]
        encoding = str(tensor.get("encoding", "none") or "none").lower()
        leaves[name] = Leaf(key, "tensor", _shape(tensor), str(tensor["dtype"]), encoding, nested)
    else:
        leaves[name] = Leaf(key, "other")


def _shape(node: Json) -> tuple[int, ...]:
    shape = tuple(int(each) for each in node.get("shape", {}).get("dimensions", ()))
    if any(size < -1 for size in shape) or math.prod(map(abs, shape)) > VALUES:
        raise ValueError(f"a shape is {str(shape)[:80]}, more than {VALUES} values per step")
    return shape
