"""The interface between readers and the conversion: raw episodes, parts, and the reader protocol."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from roboalign.errors import printable
from roboalign.sources.errors import DamagedError
from roboalign.types import Float32, UInt8

SEVERAL_INSTRUCTIONS = (
    "the instruction changes within the episode; the first one is used for the whole episode "
    "(`instruction_changes: split` divides it)"
)
"""Warning for an episode whose instruction changes."""
REASON = 2000
"""Largest length of a reason in characters."""


ImageDecoder = Callable[[Sequence[int]], Iterator[UInt8]]
"""Decodes the images of increasing step indices, each (H, W, 3) RGB; other images are skipped if the format allows it.

Raises DamagedError if an image cannot be decoded.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a data set that one worker reads: a file, or some episodes of a file or list."""

    path: str
    """File or folder, relative to the data set's URI."""
    first: int = 0
    """Index of the first episode, if a file or list is divided."""
    stop: int | None = None
    """Index after the last episode; None for all remaining ones."""


@dataclass(frozen=True, slots=True)
class RawEpisode:
    """A recorded episode before filter, stride, crop and resize. Images and columns are loaded on demand."""

    name: str
    """Name of the episode in the data set, such as `train-00003-of-01024#17`."""
    length: int
    """Number of recorded frames."""
    images: ImageDecoder
    """Images of the camera, or of the first one if there are several."""
    columns: Mapping[str, Float32]
    """Action columns by key, each (length, width) float32 in recorded units."""
    instruction: str
    """The instruction, or the first one if it changes; empty if there is none."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Attributes, for filters and scenes."""
    task: str = ""
    """The data set's name of the task; empty if it has none."""
    dimension_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The data set's names of the dimensions of its columns, by key; columns without names are absent."""
    warnings: list[str] = field(default_factory=list)
    """Warnings, with the same wording for all episodes that they apply to; decoding adds to the list."""
    further_images: tuple[ImageDecoder, ...] = ()
    """Images of the other cameras, if the spec names several."""
    instructions: Sequence[str] = ()
    """Instruction of each frame if the format has one per frame; one or none if it applies to all frames."""
    recording: "RawEpisode | None" = None
    """The episode that this one is a segment of, if it was divided."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """An episode or file that cannot be used."""

    name: str
    """Name of the episode or file in the data set."""
    reason: str
    """Reason why it cannot be used."""
    lost: int = 1
    """Number of lost episodes, as far as it is known."""

    def __post_init__(self) -> None:
        # Both may quote the data set and are written to terminals and JSON files.
        object.__setattr__(self, "name", printable(self.name)[:REASON])
        object.__setattr__(self, "reason", printable(self.reason.replace("\n", " "))[:REASON])


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A valid episode that the spec leaves out."""

    reason: str
    """Field of the spec that leaves it out."""


def change_warnings(instructions: Sequence[str]) -> list[str]:
    """Return a warning if the instruction of an episode changes."""
    return [SEVERAL_INSTRUCTIONS] if len(set(instructions)) > 1 else []


class Reader(Protocol):
    """Reads one data set. Opening reads only the metadata; data is fetched when episodes are read."""

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        ...

    def parts(self) -> list[Part]:
        """Return all parts, in a fixed order. Raises SourceError if there are none."""
        ...

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the episodes of a part, in order; a damaged episode or rest of a file is yielded as `Damaged`."""
        ...


def require_key(columns: Mapping[str, object], key: str, description: str) -> None:
    """Raise DamagedError, with a list of the available keys, if a column that the spec names is missing."""
    if key not in columns:
        available = ", ".join(sorted(columns)) or "nothing"
        raise DamagedError(f"it has no {description} '{key}'; available: {available}")
