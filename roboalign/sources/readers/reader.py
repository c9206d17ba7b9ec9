"""What a reader of a data set offers to the conversion."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from roboalign.errors import printable
from roboalign.sources.errors import DamagedError
from roboalign.types import Float32, UInt8

SEVERAL_INSTRUCTIONS = (
    "the instruction changes within the episode; the first one is taken for all of it "
    "(`instruction_changes: split` divides it there)"
)
"""A warning."""
REASON = 2000
"""Characters of a reason at most."""


Pictures = Callable[[Sequence[int]], Iterator[UInt8]]
"""Decodes the frames of these increasing numbers, each (H, W, 3) RGB; none of the others is decoded if the format
allows it. Raises DamagedError if one cannot be."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a data set that one worker reads in one go: a file, or some episodes of one."""

    path: str
    """A file or folder, relative to the data set's URI."""
    first: int = 0
    """The first episode of the part, if a file or a list is divided."""
    stop: int | None = None
    """One past the last one; None reads on to the end."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One episode as a data set holds it, before filter, stride, crop and resize."""

    name: str
    """Where it lies in the data set, for messages: `train-00003-of-01024#17`."""
    length: int
    """Recorded frames."""
    pictures: Pictures
    """The pictures of the camera, or of the first one."""
    columns: Mapping[str, Float32]
    """The action columns that the spec names, by key: (length, width), float32, in recorded units."""
    instruction: str
    """The instruction, or the first one; empty if there is none."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What else is known, for filters and scenes."""
    task: str = ""
    """The data set's own name of the task; empty if it has none."""
    dimension_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The data set's own names of the columns' dimensions, by key; columns without names are absent."""
    warnings: list[str] = field(default_factory=list)
    """What to know of an episode that is taken all the same, worded alike for all that it applies to; decoding adds to
    it."""
    further_pictures: tuple[Pictures, ...] = ()
    """The pictures of the other cameras, if the spec names several."""
    instructions: Sequence[str] = ()
    """The instruction of each frame, if the format has one for each; one or none if it holds for all."""
    recording: "Raw | None" = None
    """The episode that this one is a stretch of, if it was divided."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """An episode, or a whole file, that cannot be used."""

    name: str
    """Where it lies in the data set."""
    reason: str
    """What is wrong with it."""
    lost: int = 1
    """How many episodes are lost by it, as far as the data set tells."""

    def __post_init__(self) -> None:
        # Both may quote what the data set holds, and go to terminals and JSON files.
        object.__setattr__(self, "name", printable(self.name)[:REASON])
        object.__setattr__(self, "reason", printable(self.reason.replace("\n", " "))[:REASON])


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sound episode that the spec does not want."""

    reason: str
    """Which field of the spec left it out."""


def changes_of(instructions: Sequence[str]) -> list[str]:
    """The warning that the instruction of an episode changes, if it does."""
    return [SEVERAL_INSTRUCTIONS] if len(set(instructions)) > 1 else []


class Reader(Protocol):
    """One data set. Opening reads its description alone; nothing is downloaded as a whole before the first episode."""

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        ...

    def parts(self) -> list[Part]:
        """All parts, in a fixed order. Raises SourceError if there are none."""
        ...

    def read(self, part: Part) -> Iterator[Raw | Damaged]:
        """The episodes of a part, in order; a damaged one, or a damaged rest of a file, comes as `Damaged`."""
        ...


def require_key(columns: Mapping[str, object], key: str, what: str) -> None:
    """Raise DamagedError if a column that the spec names is missing; the message lists what there is."""
    if key not in columns:
        there = ", ".join(sorted(columns)) or "nothing"
        raise DamagedError(f"it has no {what} '{key}'; there is: {there}")
