"""Several cameras of one data set: a reader for each, whose episodes are joined."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.reader import Damaged, Part, Pictures, Raw, Reader
from roboalign.types import UInt8


class CameraSet:
    """Reads one data set with several cameras, by one reader of its format for each."""

    def __init__(self, readers: Mapping[str, Reader]) -> None:
        self._readers = readers
        self._first = next(iter(readers.values()))

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self._first.fps

    def parts(self) -> list[Part]:
        """The parts of the data set, which do not depend on the camera."""
        return self._first.parts()

    def read(self, part: Part) -> Iterator[Raw | Damaged]:
        """The episodes of a part with the pictures of all cameras; one that lacks a camera is damaged."""
        with ExitStack() as stack:
            streams: list[Any] = [reader.read(part) for reader in self._readers.values()]
            for stream in streams:
                stack.enter_context(closing(stream))
            for episodes in zip(*streams, strict=True):
                yield join_cameras(dict(zip(self._readers, episodes, strict=True)))


def join_cameras(episodes: Mapping[str, Raw | Damaged]) -> Raw | Damaged:
    """One episode as each camera's reader gives it, by camera, as one: all but the pictures is that of the first."""
    damaged = [episode for episode in episodes.values() if isinstance(episode, Damaged)]
    if len(damaged) == len(episodes) and len(set(damaged)) == 1:
        return damaged[0]
    raws: dict[str, Raw] = {}
    for camera, episode in episodes.items():
        if isinstance(episode, Damaged):
            return replace(episode, reason=name_camera(camera, episode.reason))
        raws[camera] = episode
    first, *others = raws
    for camera in others:
        if raws[camera].length != raws[first].length:
            reason = f"camera '{first}' has {raws[first].length} frames, but '{camera}' has {raws[camera].length}"
            return Damaged(raws[first].name, reason)
    warnings = list(dict.fromkeys(text for raw in raws.values() for text in raw.warnings))
    pictures, *further = [pictures_of(camera, raw, warnings) for camera, raw in raws.items()]
    return replace(raws[first], pictures=pictures, further_pictures=tuple(further), warnings=warnings)


def pictures_of(camera: str, raw: Raw, warnings: list[str]) -> Pictures:
    """The pictures of a camera. Damage is told with the camera's name; what decoding warns of goes to `warnings`."""

    def pictures(steps: Sequence[int]) -> Iterator[UInt8]:
        try:
            yield from raw.pictures(steps)
        except DamagedError as error:
            raise DamagedError(name_camera(camera, str(error))) from None
        finally:
            warnings.extend(text for text in raw.warnings if text not in warnings)

    return pictures


def name_camera(camera: str, reason: str) -> str:
    """What is wrong, with the camera that it concerns."""
    return reason if f"'{camera}'" in reason else f"camera '{camera}': {reason}"
