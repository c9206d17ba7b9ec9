"""Decodes the values of RLDS features: arrays with one row per step, texts, and images."""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.encoded import decode
from roboalign.sources.readers.example import byte_strings, numbers, text
from roboalign.sources.readers.rlds_features import Leaf
from roboalign.types import Float32, UInt8

OTHER_SIZE = "its images do not have the size that features.json declares"
"""Warning for images whose size differs from the declared one."""
FeatureValues = Mapping[str, memoryview]
"""Undecoded features of an Example by name."""


def stored_value(values_by_name: FeatureValues, leaf: Leaf) -> memoryview:
    """Return the stored value of a feature. Raises DamagedError if it is missing."""
    key = f"{leaf.key}/ragged_flat_values" if leaf.nested else leaf.key
    if key not in values_by_name:
        raise DamagedError(f"its record has no '{key}'")
    return values_by_name[key]


def rows(values_by_name: FeatureValues, leaf: Leaf, length: int) -> Float32:
    """Decode a numeric feature to (length, width). Raises DamagedError if the number of values does not match."""
    try:
        values = _flat(stored_value(values_by_name, leaf), leaf)
    except DamagedError as error:
        raise DamagedError(f"'{leaf.key}' cannot be read: {error}") from None
    width = leaf.size
    if leaf.nested or width < 0:  # must be the same in each step
        width = len(values) // max(1, length)
        counts = _row_lengths(values_by_name, leaf)
        if len(set(counts)) > 1:
            raise DamagedError(f"'{leaf.key}' has between {min(counts)} and {max(counts)} entries per step")
    if len(values) != width * length:
        raise DamagedError(f"'{leaf.key}' has {len(values)} numbers, not {width} for each of {length} steps")
    return values.reshape(length, width)


def _row_lengths(values_by_name: FeatureValues, leaf: Leaf) -> list[int]:
    counts: list[int] = []
    for depth in range(leaf.nested):
        key = f"{leaf.key}/ragged_row_lengths_{depth}"
        if key not in values_by_name:
            raise DamagedError(f"its record has no '{key}'")
        counts = [int(count) for count in numbers(values_by_name[key])]
    return counts


def _flat(feature: memoryview, leaf: Leaf) -> Float32:
    if leaf.encoding == "none":
        return numbers(feature).astype(np.float32)
    kind = np.dtype(leaf.dtype)
    size = kind.itemsize * max(0, leaf.size)
    parts = [np.empty(0, np.float32)]
    for packed in byte_strings(feature):
        data = _inflate(packed, size) if leaf.encoding == "zlib" else bytes(packed)
        if len(data) != size:
            raise DamagedError(f"one of its tensors has {len(data)} bytes, not {size}")
        parts.append(np.frombuffer(data, kind.newbyteorder("<")).astype(np.float32))
    return np.concatenate(parts)


def _inflate(packed: memoryview, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error as error:
        raise DamagedError(f"a compressed tensor is broken: {error}") from None


def texts(values_by_name: FeatureValues, leaf: Leaf) -> list[str]:
    """Return the texts of a feature: one per step, or a single one for a feature of the episode. Raises
    DamagedError."""
    try:
        feature = stored_value(values_by_name, leaf)
        if not leaf.numeric:
            return [text(part) for part in byte_strings(feature)]
        codes = numbers(feature) if leaf.encoding == "none" else _flat(feature, leaf)
        width = max(1, leaf.size)
        cut = [codes[start : start + width] for start in range(0, len(codes), width)]
        # A vector of character codes, padded with zeros, as Language-Table stores its instructions.
        return ["".join(chr(int(code)) for code in row if 0 < code <= 0x10FFFF) for row in cut]
    except DamagedError as error:
        raise DamagedError(f"'{leaf.key}' cannot be read: {error}") from None


def attribute(values_by_name: FeatureValues, leaf: Leaf) -> str | None:
    """Return a text or single number of an episode as text ("true" or "false" for a bool); None for other values."""
    if leaf.key not in values_by_name or leaf.nested or leaf.encoding != "none":
        return None
    try:
        if not leaf.numeric:
            values = texts(values_by_name, leaf) if leaf.textual else []
            return values[0] if len(values) == 1 else None
        number = numbers(values_by_name[leaf.key])
    except DamagedError:  # `convert` raises an error if it is needed
        return None
    if number.shape != (1,):
        return None
    return ("false", "true")[bool(number[0])] if leaf.dtype == "bool" else str(number[0].item())


def stored_images(values_by_name: FeatureValues, leaf: Leaf) -> Sequence[memoryview] | UInt8:
    """Return the images of a feature: encoded ones as stored, a tensor as (length, H, W, 3). Raises DamagedError."""
    try:
        if leaf.kind == "image":
            return byte_strings(stored_value(values_by_name, leaf))
        values = _flat(stored_value(values_by_name, leaf), leaf)
        length, rest = divmod(len(values), max(1, leaf.size))
        if rest or not ((values >= 0) & (values <= 255)).all():
            raise DamagedError(f"its values are not images of shape {leaf.shape}")
        return values.reshape(length, *leaf.shape).astype(np.uint8)
    except DamagedError as error:
        raise DamagedError(f"'{leaf.key}' cannot be read: {error}") from None


def decode_images(
    images: Sequence[memoryview] | UInt8, leaf: Leaf, warnings: list[str], steps: Sequence[int]
) -> Iterator[UInt8]:
    """Yield the images (H, W, 3) of the given steps.

    Raises DamagedError if one is not a JPEG or PNG, or not of the common size.
    """
    size: tuple[int, ...] = (-1, -1)
    for step in steps:
        value = images[step]
        image = value if isinstance(value, np.ndarray) else decode(value, size, step)
        size = image.shape[:2]
        yield image
    declared = leaf.shape[:2]
    # The declared size of an image does not include the rotation by its EXIF orientation.
    if len(declared) == 2 and -1 not in (*declared, *size) and sorted(size) != sorted(declared):
        warnings.append(OTHER_SIZE)
