"""The values of RLDS features: from what an Example stores to arrays with one row a step, texts, and pictures."""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.encoded import decode
from roboalign.sources.readers.example import byte_strings, numbers, text
from roboalign.sources.readers.rlds_features import Leaf
from roboalign.types import Float32, UInt8

OTHER_SIZE = "its pictures are not of the size that features.json declares"
"""A warning."""
Found = Mapping[str, memoryview]
"""The undecoded features of an Example, by name."""


def stored_value(found: Found, leaf: Leaf) -> memoryview:
    """What an Example stores of a feature. Raises DamagedError if it lacks it."""
    key = f"{leaf.key}/ragged_flat_values" if leaf.nested else leaf.key
    if key not in found:
        raise DamagedError(f"its record has no '{key}'")
    return found[key]


def rows(found: Found, leaf: Leaf, length: int) -> Float32:
    """(length, width): the numbers of a feature, one row a step. Raises DamagedError if they do not fill them."""
    try:
        values = _flat(stored_value(found, leaf), leaf)
    except DamagedError as error:
        raise DamagedError(f"'{leaf.key}' cannot be read: {error}") from None
    width = leaf.size
    if leaf.nested or width < 0:  # as many in each step as in every other
        width = len(values) // max(1, length)
        counts = _row_lengths(found, leaf)
        if len(set(counts)) > 1:
            raise DamagedError(f"'{leaf.key}' has between {min(counts)} and {max(counts)} entries a step")
    if len(values) != width * length:
        raise DamagedError(f"'{leaf.key}' has {len(values)} numbers, not {width} for each of {length} steps")
    return values.reshape(length, width)


def _row_lengths(found: Found, leaf: Leaf) -> list[int]:
    counts: list[int] = []
    for depth in range(leaf.nested):
        key = f"{leaf.key}/ragged_row_lengths_{depth}"
        if key not in found:
            raise DamagedError(f"its record has no '{key}'")
        counts = [int(count) for count in numbers(found[key])]
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


def texts(found: Found, leaf: Leaf) -> list[str]:
    """The texts of a feature, one for each step or (of a feature of the episode) one. Raises DamagedError."""
    try:
        feature = stored_value(found, leaf)
        if not leaf.numeric:
            return [text(part) for part in byte_strings(feature)]
        codes = numbers(feature) if leaf.encoding == "none" else _flat(feature, leaf)
        width = max(1, leaf.size)
        cut = [codes[start : start + width] for start in range(0, len(codes), width)]
        # A vector of character codes, filled up with zeros, as Language-Table stores its instructions.
        return ["".join(chr(int(code)) for code in row if 0 < code <= 0x10FFFF) for row in cut]
    except DamagedError as error:
        raise DamagedError(f"'{leaf.key}' cannot be read: {error}") from None


def attribute(found: Found, leaf: Leaf) -> str | None:
    """A text or a single number of an episode as text (true and false for a bool); None if it is none of these."""
    if leaf.key not in found or leaf.nested or leaf.encoding != "none":
        return None
    try:
        if not leaf.numeric:
            values = texts(found, leaf) if leaf.textual else []
            return values[0] if len(values) == 1 else None
        number = numbers(found[leaf.key])
    except DamagedError:  # `convert` complains if it is needed
        return None
    if number.shape != (1,):
        return None
    return ("false", "true")[bool(number[0])] if leaf.dtype == "bool" else str(number[0].item())


def pictures(found: Found, leaf: Leaf) -> Sequence[memoryview] | UInt8:
    """The pictures of a feature, one a step: encoded ones as they are, a tensor as (length, H, W, 3)."""
    try:
        if leaf.kind == "image":
            return byte_strings(stored_value(found, leaf))
        values = _flat(stored_value(found, leaf), leaf)
        length, rest = divmod(len(values), max(1, leaf.size))
        if rest or not ((values >= 0) & (values <= 255)).all():
            raise DamagedError(f"its values are no pictures of {leaf.shape} bytes")
        return values.reshape(length, *leaf.shape).astype(np.uint8)
    except DamagedError as error:
        raise DamagedError(f"'{leaf.key}' cannot be read: {error}") from None


def decode_pictures(
    images: Sequence[memoryview] | UInt8, leaf: Leaf, warnings: list[str], steps: Sequence[int]
) -> Iterator[UInt8]:
    """(H, W, 3) of each wanted step. Raises DamagedError if one is not a JPEG or PNG, or not of the common size."""
    size: tuple[int, ...] = (-1, -1)
    for step in steps:
        image = images[step]
        picture = image if isinstance(image, np.ndarray) else decode(image, size, step)
        size = picture.shape[:2]
        yield picture
    declared = leaf.shape[:2]
    # A picture that is turned by its EXIF orientation is declared as it is stored.
    if len(declared) == 2 and -1 not in (*declared, *size) and sorted(size) != sorted(declared):
        warnings.append(OTHER_SIZE)
