"""A folder of videos, and a JSON Lines file with one line a video."""

import errno
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import av
from numpy.typing import NDArray

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.arrays import open_npz, read_npy
from roboalign.sources.readers.columns import MISSING, Columns
from roboalign.sources.readers.files import Files, inside
from roboalign.sources.readers.reader import Damaged, Part, Raw, require_key
from roboalign.sources.readers.spec import VideosSpec
from roboalign.sources.readers.text import parse_json
from roboalign.store.media import MediaError, open_video, upright_frame, video_stream
from roboalign.types import Json, UInt8

EPISODES = 20
"""Lines of the manifest that make a part."""
TOLERANCE = 0.1
"""Share of a frame's duration by which it may come early or late; what containers round times to is less."""
RATE = 0.01
"""Share by which a video's own rate may differ from the spec's before it is said to be another one."""
LINE = 2**26
"""Bytes of a line of the manifest at most."""
MORE_FRAMES = "its video has frames after its last action; they are left out"
"""A warning."""


class Videos:
    """The videos that a manifest lists."""

    def __init__(self, spec: VideosSpec, files: Files) -> None:
        self.spec = spec
        self.files = files
        self.camera = spec.cameras[0]

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self.spec.fps

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines of the manifest that are not blank, numbered from 1. Raises SourceError if it is missing."""
        try:
            with self.files.open(self.spec.manifest) as file:
                for number, line in enumerate(iter(lambda: file.readline(LINE), b""), 1):
                    if len(line) == LINE:
                        raise SourceError(f"{self.files.uri}/{self.spec.manifest}:{number} has more than {LINE} bytes")
                    if line.strip():
                        yield number, line
        except MISSING:
            raise SourceError(f"{self.files.uri} has no {self.spec.manifest}; correct `uri` or `manifest`") from None
        except OSError as error:
            raise SourceError(f"{self.files.uri}/{self.spec.manifest} cannot be fetched: {error}") from None

    def parts(self) -> list[Part]:
        """Some lines each. Raises SourceError if the manifest is missing or empty."""
        count = sum(1 for _ in self.lines())
        if not count:
            raise SourceError(f"{self.files.uri}/{self.spec.manifest} is empty; write a line of JSON for each video")
        return [Part(self.spec.manifest, first, first + EPISODES) for first in range(0, count, EPISODES)]

    def read(self, part: Part) -> Iterator[Raw | Damaged]:
        """Some of the videos, in the order of the manifest."""
        for place, (number, line) in enumerate(self.lines()):
            if part.stop is not None and place >= part.stop:
                return
            if place >= part.first:
                name = f"{self.spec.manifest}:{number}"
                try:
                    yield self._raw(name, entry(line))
                except DamagedError as error:
                    yield Damaged(name, str(error))

    def _raw(self, name: str, line: dict[str, Json]) -> Raw:
        require_key(line, self.camera, "key")
        path = file_path(line[self.camera], self.camera)
        tables = {key: value for key, value in line.items() if isinstance(value, list)}
        for action in self.spec.actions:
            require_key(line, action.key, "action column")
            tables[action.key] = line[action.key]
        columns = Columns(tables, lambda key: self.table(line[key], key))
        # What a pattern looks in is an attribute as any other.
        own = {self.spec.instruction} if isinstance(self.spec.instruction, str) else set()
        attributes = flatten(line, {self.camera, *own, *tables})
        instruction = line.get(self.spec.instruction_field)
        length = len(columns[self.spec.actions[0].key])
        warnings: list[str] = []
        return Raw(
            name=name,
            length=length,
            pictures=lambda steps: self.frames(path, steps, length, warnings),
            columns=columns,
            instruction=instruction if isinstance(instruction, str) else "",
            attributes=attributes | {"video": path},
            warnings=warnings,
        )

    def table(self, value: Json, key: str) -> Any:
        """The rows of an action column: a list in the manifest, or an `.npy` or `.npz` file beside it, of which the
        array of the column's name counts, or the only one. Raises DamagedError."""
        if isinstance(value, list):
            return value
        path = file_path(value, key)
        try:
            return read_table(io.BytesIO(self.files.bytes(path)), key)
        except MISSING:
            raise DamagedError(f"its '{key}' is the file {path}, which is missing") from None
        except OSError as error:
            raise SourceError(f"{self.files.uri}/{path} cannot be fetched: {error}; run it again") from None
        except DamagedError as error:
            kind = ".npz" if path.endswith(".npz") else ".npy"
            message = f"its '{key}' is the file {path}, which is not an {kind} file with numbers: {error}"
            raise DamagedError(message) from None

    def frames(self, path: str, steps: Sequence[int], length: int, warnings: list[str]) -> Iterator[UInt8]:
        """Decodes a video from its start to its end, one frame at a time, and hands on the wanted ones.

        All are decoded, for each depends on those before it, and only so is their number known. Raises DamagedError.
        """
        wanted = frozenset(steps)
        count = 0
        try:
            with self.files.open(path) as file, open_video(file) as container:
                stream = video_stream(container)
                rate = float(stream.average_rate or 0)
                before: float | None = None
                for image in container.decode(stream):
                    before = self.steady(f"frame {count} of the video {path}", image, before, rate)
                    if count in wanted:
                        yield upright_frame(image)
                    count += 1
        except MISSING:
            raise DamagedError(f"the video {path} is missing") from None
        except MediaError as error:
            raise DamagedError(f"the video {path} {error}") from None
        except (av.error.FFmpegError, ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            # Looking for a place before a short file's start is an invalid argument.
            if not isinstance(error, av.error.FFmpegError | ValueError) and error.errno != errno.EINVAL:
                raise SourceError(f"{self.files.uri}/{path} cannot be fetched: {reason}; run it again") from None
            raise DamagedError(f"the video {path} cannot be decoded after {count} frames: {reason}") from None
        if count < length:
            raise DamagedError(f"the video {path} has {count} frames, but there are {length} actions")
        if count > length:
            warnings.append(MORE_FRAMES)

    def steady(self, name: str, image: av.VideoFrame, before: float | None, rate: float) -> float:
        """When a frame is shown, in seconds. Raises DamagedError if it is corrupt, or does not come one frame's
        duration after the one before; `rate` is the video's average."""
        if image.is_corrupt:
            raise DamagedError(f"{name} is damaged")
        if image.time is None or image.time_base is None:
            raise DamagedError(f"{name} does not say when it is shown")
        allowed = TOLERANCE / self.spec.fps + float(image.time_base)
        passed = 1 / self.spec.fps if before is None else image.time - before
        if abs(passed - 1 / self.spec.fps) > allowed:
            if rate and abs(rate / self.spec.fps - 1) > RATE and abs(passed - 1 / rate) <= allowed:
                raise DamagedError(f"{name} shows that it has {rate:g} frames a second, but fps is {self.spec.fps:g}")
            raise DamagedError(
                f"{name} comes {passed:.4g} s after the one before, not {1 / self.spec.fps:.4g} s: "
                "its rate is variable; encode it at a constant one"
            )
        return image.time


def read_table(file: IO[bytes], key: str) -> NDArray[Any]:
    """The array of an `.npy` file; of an `.npz` file the one named `key`, or the only one. Raises DamagedError."""
    packed = file.read(2) == b"PK"
    file.seek(0)
    if not packed:
        return read_npy(file)
    with open_npz(file) as arrays:
        name = next(iter(arrays)) if len(arrays) == 1 else key
        require_key(arrays, name, "array")
        return arrays[name]


def entry(line: bytes) -> dict[str, Json]:
    """A line of the manifest. Raises DamagedError if it is not a JSON object."""
    try:
        value = parse_json(line)
    except ValueError as error:
        raise DamagedError(f"the line is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DamagedError("the line is not a JSON object with keys and values")
    return value


def file_path(value: Json, key: str) -> str:
    """A file's path within the folder. Raises DamagedError if it leads out of it, or is none."""
    try:
        return inside(value)
    except DamagedError as error:
        raise DamagedError(f"its '{key}' {error}") from None


def flatten(value: Mapping[str, Json], without: set[str], above: str = "") -> dict[str, str]:
    """The texts and numbers of a JSON object as text, those of objects in it by path."""
    found: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            found |= flatten(item, without, f"{above}{key}/")
        elif isinstance(item, str | bool | int | float) and f"{above}{key}" not in without:
            found[f"{above}{key}"] = str(item)
    return found
