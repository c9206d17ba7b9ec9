"""Reads a folder of videos with a JSON Lines manifest, which has one line per video."""

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
from roboalign.sources.readers.reader import Damaged, Part, RawEpisode, require_key
from roboalign.sources.readers.spec import VideosSpec
from roboalign.sources.readers.text import parse_json
from roboalign.store.media import MediaError, open_video, upright_frame, video_stream
from roboalign.types import Json, UInt8

EPISODES = 20
"""Number of manifest lines in a part."""
TOLERANCE = 0.1
"""Largest deviation of a frame's timestamp, as a fraction of the frame duration; rounding by containers is smaller."""
RATE = 0.01
"""Smallest relative difference between the frame rates of the video and the spec that is reported as such."""
LINE = 2**26
"""Largest size of a manifest line in bytes."""
MORE_FRAMES = "its video has frames after its last action; they are left out"
"""Warning for a video that is longer than its actions."""


class Videos:
    """Reads the videos that a manifest lists."""

    def __init__(self, spec: VideosSpec, files: Files) -> None:
        self.spec = spec
        self.files = files
        self.camera = spec.cameras[0]

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self.spec.fps

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the non-blank lines of the manifest, numbered from 1. Raises SourceError if it is missing."""
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
        """Return the parts, of EPISODES lines each. Raises SourceError if the manifest is missing or empty."""
        count = sum(1 for _ in self.lines())
        if not count:
            raise SourceError(f"{self.files.uri}/{self.spec.manifest} is empty; write a line of JSON for each video")
        return [Part(self.spec.manifest, first, first + EPISODES) for first in range(0, count, EPISODES)]

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the episodes of a part, in the order of the manifest."""
        for index, (number, line) in enumerate(self.lines()):
            if part.stop is not None and index >= part.stop:
                return
            if index >= part.first:
                name = f"{self.spec.manifest}:{number}"
                try:
                    yield self._raw(name, entry(line))
                except DamagedError as error:
                    yield Damaged(name, str(error))

    def _raw(self, name: str, line: dict[str, Json]) -> RawEpisode:
        require_key(line, self.camera, "key")
        path = file_path(line[self.camera], self.camera)
        tables = {key: value for key, value in line.items() if isinstance(value, list)}
        for action in self.spec.actions:
            require_key(line, action.key, "action column")
            tables[action.key] = line[action.key]
        columns = Columns(tables, lambda key: self.table(line[key], key))
        # The field that a pattern is applied to stays an attribute.
        instruction_keys = {self.spec.instruction} if isinstance(self.spec.instruction, str) else set()
        attributes = flatten(line, {self.camera, *instruction_keys, *tables})
        instruction = line.get(self.spec.instruction_field)
        length = len(columns[self.spec.actions[0].key])
        warnings: list[str] = []
        return RawEpisode(
            name=name,
            length=length,
            images=lambda steps: self.frames(path, steps, length, warnings),
            columns=columns,
            instruction=instruction if isinstance(instruction, str) else "",
            attributes=attributes | {"video": path},
            warnings=warnings,
        )

    def table(self, value: Json, key: str) -> Any:
        """Load the rows of an action column: a list in the manifest, or an `.npy` or `.npz` file.

        Of an `.npz` file the array with the column's name is used, or the only one. Raises DamagedError.
        """
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
        """Decode a video from start to end, one frame at a time, and yield the frames of the given steps.

        All frames are decoded, because each depends on earlier ones and because they must be counted.

        Raises DamagedError if the video cannot be decoded, has a variable frame rate, or has fewer than `length`
        frames.
        """
        wanted = frozenset(steps)
        count = 0
        try:
            with self.files.open(path) as file, open_video(file) as container:
                stream = video_stream(container)
                rate = float(stream.average_rate or 0)
                previous: float | None = None
                for image in container.decode(stream):
                    previous = self.check_timestamp(f"frame {count} of the video {path}", image, previous, rate)
                    if count in wanted:
                        yield upright_frame(image)
                    count += 1
        except MISSING:
            raise DamagedError(f"the video {path} is missing") from None
        except MediaError as error:
            raise DamagedError(f"the video {path} {error}") from None
        except (av.error.FFmpegError, ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            # A seek before the start of a truncated file is EINVAL.
            if not isinstance(error, av.error.FFmpegError | ValueError) and error.errno != errno.EINVAL:
                raise SourceError(f"{self.files.uri}/{path} cannot be fetched: {reason}; run it again") from None
            raise DamagedError(f"the video {path} cannot be decoded after {count} frames: {reason}") from None
        if count < length:
            raise DamagedError(f"the video {path} has {count} frames, but there are {length} actions")
        if count > length:
            warnings.append(MORE_FRAMES)

    def check_timestamp(self, name: str, image: av.VideoFrame, previous: float | None, rate: float) -> float:
        """Check the timestamp of a frame and return it in seconds.

        Raises DamagedError if the frame is corrupt, or does not follow the previous one by one frame duration.

        Args:
            name: name of the frame, for error messages.
            image: the frame.
            previous: timestamp of the previous frame in seconds; None for the first one.
            rate: average frame rate of the video in frames per second.
        """
        if image.is_corrupt:
            raise DamagedError(f"{name} is damaged")
        if image.time is None or image.time_base is None:
            raise DamagedError(f"{name} has no timestamp")
        allowed = TOLERANCE / self.spec.fps + float(image.time_base)
        passed = 1 / self.spec.fps if previous is None else image.time - previous
        if abs(passed - 1 / self.spec.fps) > allowed:
            if rate and abs(rate / self.spec.fps - 1) > RATE and abs(passed - 1 / rate) <= allowed:
                raise DamagedError(f"{name} shows a rate of {rate:g} frames per second, but fps is {self.spec.fps:g}")
            raise DamagedError(
                f"{name} comes {passed:.4g} s after the previous one, not {1 / self.spec.fps:.4g} s: "
                "its frame rate is variable; encode it with a constant one"
            )
        return image.time


def read_table(file: IO[bytes], key: str) -> NDArray[Any]:
    """Read the array of an `.npy` file, or of an `.npz` file the one named `key` or the only one. Raises
    DamagedError."""
    packed = file.read(2) == b"PK"
    file.seek(0)
    if not packed:
        return read_npy(file)
    with open_npz(file) as arrays:
        name = next(iter(arrays)) if len(arrays) == 1 else key
        require_key(arrays, name, "array")
        return arrays[name]


def entry(line: bytes) -> dict[str, Json]:
    """Parse a line of the manifest. Raises DamagedError if it is not a JSON object."""
    try:
        value = parse_json(line)
    except ValueError as error:
        raise DamagedError(f"the line is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DamagedError("the line is not a JSON object with keys and values")
    return value


def file_path(value: Json, key: str) -> str:
    """Validate the path of a file, relative to the folder. Raises DamagedError if it is outside or not a path."""
    try:
        return inside(value)
    except DamagedError as error:
        raise DamagedError(f"its '{key}' {error}") from None


def flatten(value: Mapping[str, Json], without: set[str], above: str = "") -> dict[str, str]:
    """Flatten the texts and numbers of a JSON object to texts by path, except the keys in `without`."""
    texts: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            texts |= flatten(item, without, f"{above}{key}/")
        elif isinstance(item, str | bool | int | float) and f"{above}{key}" not in without:
            texts[f"{above}{key}"] = str(item)
    return texts
