"""Combines the readers of several cameras of one data set."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.reader import Damaged, ImageDecoder, Part, RawEpisode, Reader
from roboalign.types import UInt8


class CameraSet:
    """Reads one data set with several cameras, using one reader of its format for each."""

    def __init__(self, readers: Mapping[str, Reader]) -> None:
        self._readers = readers
        self._first = next(iter(readers.values()))

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self._first.fps

    def parts(self) -> list[Part]:
        """Return the parts of the data set, which do not depend on the camera."""
        return self._first.parts()

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the episodes of a part with the images of all cameras; an episode that lacks a camera is damaged."""
        with ExitStack() as stack:
            streams: list[Any] = [reader.read(part) for reader in self._readers.values()]
            for stream in streams:
                stack.enter_context(closing(stream))
            for episodes in zip(*streams, strict=True):
                yield join_cameras(dict(zip(self._readers, episodes, strict=True)))


def join_cameras(episodes: Mapping[str, RawEpisode | Damaged]) -> RawEpisode | Damaged:
    """Merge the episodes of the readers of each camera into one; all but the images is taken from the first camera."""
    damaged = [episode for episode in episodes.values() if isinstance(episode, Damaged)]
    if len(damaged) == len(episodes) and len(set(damaged)) == 1:
        return damaged[0]
    raws: dict[str, RawEpisode] = {}
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
    images, *further = [decode_camera(camera, raw, warnings) for camera, raw in raws.items()]
    return replace(raws[first], images=images, further_images=tuple(further), warnings=warnings)


def decode_camera(camera: str, raw: RawEpisode, warnings: list[str]) -> ImageDecoder:
    """Return the images of a camera; errors name the camera, and warnings of decoding are added to `warnings`."""

    def images(steps: Sequence[int]) -> Iterator[UInt8]:
        try:
            yield from raw.images(steps)
        except DamagedError as error:
            raise DamagedError(name_camera(camera, str(error))) from None
        finally:
            warnings.extend(text for text in raw.warnings if text not in warnings)

    return images


def name_camera(camera: str, reason: str) -> str:
    """Prefix a reason with its camera, unless it names the camera already."""
    return reason if f"'{camera}'" in reason else f"camera '{camera}': {reason}"
