"""Episodes in which the instruction changes, divided into one for each stretch of one instruction."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from roboalign.sources.readers.columns import Columns
from roboalign.sources.readers.reader import SEVERAL_INSTRUCTIONS, Damaged, Part, Pictures, Raw, Reader


class SubtaskReader:
    """A reader whose episodes are divided wherever their instruction changes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self._reader.fps

    def parts(self) -> list[Part]:
        """The parts of the reader."""
        return self._reader.parts()

    def read(self, part: Part) -> Iterator[Raw | Damaged]:
        """The episodes of a part: those of one instruction as they are, the others in stretches."""
        for raw in self._reader.read(part):
            if isinstance(raw, Damaged):
                yield raw
            else:
                yield from split_by_instruction(raw)


def split_by_instruction(raw: Raw) -> Iterator[Raw]:
    """The stretches of an episode that have one instruction each, named `<episode>#1`, `<episode>#2` and so on.

    An episode of one instruction stays as it is. Stretches share the scene of the episode, so that no split divides it.
    """
    runs = [(text, len(list(steps))) for text, steps in groupby(raw.instructions)]
    if len(runs) < 2:
        yield raw
        return
    # The list is shared, for decoding adds to it.
    while SEVERAL_INSTRUCTIONS in raw.warnings:
        raw.warnings.remove(SEVERAL_INSTRUCTIONS)
    start = 0
    for number, (text, length) in enumerate(runs, 1):
        yield cut_stretch(raw, start, length, f"{raw.name}#{number}", text)
        start += length


def cut_stretch(raw: Raw, start: int, length: int, name: str, instruction: str) -> Raw:
    """The frames `start` to `start + length` of an episode as an episode of its own."""

    def shift_pictures(pictures: Pictures) -> Pictures:
        return lambda steps: pictures([start + step for step in steps])

    return replace(
        raw,
        name=name,
        length=length,
        pictures=shift_pictures(raw.pictures),
        further_pictures=tuple(shift_pictures(pictures) for pictures in raw.further_pictures),
        columns=Columns(raw.columns, lambda key: raw.columns[key][start : start + length]),
        instruction=instruction,
        instructions=(),
        # The name of the whole task would stand for each of its parts.
        task="",
        recording=raw,
    )
