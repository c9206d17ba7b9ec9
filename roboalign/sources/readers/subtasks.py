"""Divides episodes whose instruction changes into one episode for each segment with the same instruction."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from roboalign.sources.readers.columns import Columns
from roboalign.sources.readers.reader import SEVERAL_INSTRUCTIONS, Damaged, ImageDecoder, Part, RawEpisode, Reader


class SubtaskReader:
    """Wraps a reader to divide episodes whose instruction changes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self._reader.fps

    def parts(self) -> list[Part]:
        """Return the parts of the wrapped reader."""
        return self._reader.parts()

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the episodes of a part, divided into segments if the instruction changes."""
        for raw in self._reader.read(part):
            if isinstance(raw, Damaged):
                yield raw
            else:
                yield from split_by_instruction(raw)


def split_by_instruction(raw: RawEpisode) -> Iterator[RawEpisode]:
    """Divide an episode into segments with one instruction each, named `<episode>#1`, `<episode>#2` and so on.

    An episode with one instruction is yielded unchanged. Segments keep the scene of the episode, so that splits do not
    divide it.
    """
    runs = [(text, len(list(steps))) for text, steps in groupby(raw.instructions)]
    if len(runs) < 2:
        yield raw
        return
    # Modified in place: the list is shared with the decoders, which add to it.
    while SEVERAL_INSTRUCTIONS in raw.warnings:
        raw.warnings.remove(SEVERAL_INSTRUCTIONS)
    start = 0
    for number, (text, length) in enumerate(runs, 1):
        yield extract_segment(raw, start, length, f"{raw.name}#{number}", text)
        start += length


def extract_segment(raw: RawEpisode, start: int, length: int, name: str, instruction: str) -> RawEpisode:
    """Return the frames `start` to `start + length` of an episode as an episode."""

    def shift_images(images: ImageDecoder) -> ImageDecoder:
        return lambda steps: images([start + step for step in steps])

    return replace(
        raw,
        name=name,
        length=length,
        images=shift_images(raw.images),
        further_images=tuple(shift_images(images) for images in raw.further_images),
        columns=Columns(raw.columns, lambda key: raw.columns[key][start : start + length]),
        instruction=instruction,
        instructions=(),
        # The name of the whole task does not describe its parts.
        task="",
        recording=raw,
    )
