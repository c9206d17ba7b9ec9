"""Frames as H.264 or AV1 video: clips of single episodes, joined into large files without being encoded again.

Every episode starts with a key frame and no frame refers to a later one, so packets are copied in order. The checksum
of each packet is kept with the episode: what was damaged on disk is refused before it becomes a wrong frame.
"""

import io
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from roboalign.store.images import copy_rgb
from roboalign.store.layout import StoreError
from roboalign.store.media import MediaError, open_video
from roboalign.store.spec import Images, StorageSpec
from roboalign.types import UInt8

# Without `btrt`, whose bit rate would tell of what a file was put together from.
_BITEXACT = {"fflags": "+bitexact", "write_btrt": "0"}


def encode_clip(frames: UInt8, rate: Fraction, images: Images, storage: StorageSpec) -> bytes:
    """Frames (T, H, W, 3) as an mp4 of its own. One thread and no trace of time or place."""
    options = {"crf": str(storage.crf), "g": str(storage.gop), "flags": "+bitexact"}
    match images:
        case "h264":
            codec = "libx264"
            # A scene cut would move the key frames; frames that refer to later ones would have to be reordered.
            # `fastdecode` is read 2.5 times as fast at the same error, for a sixth more bytes.
            options |= {"preset": "veryfast", "tune": "fastdecode", "bf": "0", "sc_threshold": "0"}
            # x264's macroblock tree reads memory that it has not written if a frame is few macroblocks wide: the bytes
            # then depend on what the process did before. Without it, frames of 320x256 take a twelfth more bytes.
            options["mbtree"] = "0"
        case "av1":
            codec = "libsvtav1"
            # The encoder greets on standard error unless told not to. `pred-struct` 1: no frame refers to a later one.
            os.environ.setdefault("SVT_LOG", "1")
            options |= {"preset": "8", "svtav1-params": "lp=1:pred-struct=1:fast-decode=1"}
        case "png":
            raise ValueError("PNG frames are no video")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options=_BITEXACT) as output:
        stream = cast(VideoStream, output.add_stream(codec, rate=rate, options=options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = 1 / rate
        reformatter = VideoReformatter()
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            planar = reformatter.reformat(picture, format="yuv420p", threads=1)
            planar.pts, planar.time_base = number, 1 / rate
            output.mux(stream.encode(planar))
        output.mux(stream.encode())
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class FramePlace:
    """Where an episode lies among the video files."""

    file: int
    start: int
    """Number of its first frame in the file."""
    checksums: NDArray[np.uint32]
    """(T,): CRC-32 of the decoder's settings and the packet of each frame."""


class VideoFile:
    """A video file under construction: packets of clips are appended to it."""

    def __init__(self, path: Path, number: int, rate: Fraction) -> None:
        self.path, self.number, self.rate = path, number, rate
        self.frames = self.size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._output = av.open(str(path), "w", format="mp4", options=_BITEXACT)
        self._stream: Any = None
        self._header: bytes | None = None

    def takes(self, packets: "Packets") -> bool:
        """Whether a clip may follow those that are there: it needs the same decoder settings."""
        return self._header in (None, packets.header)

    def append(self, packets: "Packets") -> FramePlace:
        """Copy a clip's packets to the end."""
        if self._stream is None:
            self._stream = self._output.add_stream_from_template(packets.stream, opaque=True)
            self._stream.time_base = 1 / self.rate
            self._header = packets.header
        start, checksums = self.frames, []
        for packet, checksum in packets:
            checksums.append(checksum)
            packet.stream = self._stream
            packet.time_base = 1 / self.rate
            packet.pts = packet.dts = self.frames
            packet.duration = 1
            self.size += packet.size
            self.frames += 1
            self._output.mux(packet)
        return FramePlace(self.number, start, np.array(checksums, np.uint32))

    def close(self) -> None:
        """Finish the file."""
        self._output.close()


class Packets:
    """The packets of the frames `start` to `start + length` of a video, a context manager; StoreError on damage."""

    def __init__(
        self,
        source: Path | bytes,
        rate: Fraction,
        start: int,
        length: int,
        checksums: NDArray[np.uint32] | None = None,
    ) -> None:
        self.name = str(source) if isinstance(source, Path) else "an encoded clip"
        self.rate, self.start, self.length, self.checksums = rate, start, length, checksums
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        self._input, self.stream, self._step = _open(file, rate, self.name)
        self.header = bytes(self.stream.codec_context.extradata or b"")
        self._seed = zlib.crc32(self.header)

    def __enter__(self) -> "Packets":
        return self

    def __exit__(self, *_: object) -> None:
        self._input.close()

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        expected = self.start
        try:
            if self.start:
                self._input.seek(self.start * self._step, stream=self.stream)
            for packet in self._input.demux(self.stream):
                if packet.pts is None or not packet.size:
                    continue
                number = packet.pts // self._step
                if number < self.start:
                    continue
                if number >= self.start + self.length:
                    break
                checksum = zlib.crc32(packet, self._seed)
                if number != expected or (
                    self.checksums is not None and checksum != self.checksums[number - self.start]
                ):
                    raise damage_error(self.name, f"frame {number} is not what was written")
                expected += 1
                yield packet, checksum
        except (OSError, av.FFmpegError) as error:
            raise damage_error(self.name, error) from None
        if expected != self.start + self.length:
            raise damage_error(self.name, f"it ends at frame {expected}, not {self.start + self.length}")


class VideoReader:
    """Reads frames of one video file by number; the file stays open, and reading on is cheaper than jumping."""

    def __init__(self, path: Path, rate: Fraction, gop: int) -> None:
        self.path, self.rate, self.gop = path, rate, gop
        self._input, self._stream, self._step = _open(path, rate, path)
        self._stream.codec_context.thread_count = 1
        self._seed = zlib.crc32(bytes(self._stream.codec_context.extradata or b""))
        self._packets: Iterator[Any] = iter(())
        self._next: int | None = None
        self._reformatter = VideoReformatter()

    def close(self) -> None:
        """Close the file."""
        self._input.close()

    def read(self, place: FramePlace, numbers: Sequence[int], out: UInt8) -> None:
        """Decode the frames with these numbers, counted from the episode's first, in rising order, into `out`
        (len(numbers), H, W, 3). Raises StoreError if the file is not what was written."""
        at = 0
        try:
            while at < len(numbers):
                # Frames that follow within a group are decoded on the way; beyond that, jumping is cheaper.
                stop = at + 1
                while stop < len(numbers) and numbers[stop] - numbers[stop - 1] <= self.gop:
                    stop += 1
                for frame in self._run(place, numbers[at], numbers[stop - 1]):
                    number = frame.pts // self._step - place.start
                    if number == numbers[at]:
                        if (frame.height, frame.width) != out.shape[1:3]:
                            raise damage_error(self.path, f"its frames are {frame.height}x{frame.width}")
                        copy_rgb(self._reformatter.reformat(frame, format="rgb24", threads=1), out[at])
                        at += 1
                        if at == stop:
                            break
                if at != stop:
                    raise damage_error(self.path, f"frame {place.start + numbers[at]} is missing")
        except (OSError, av.FFmpegError) as error:
            self._next = None
            raise damage_error(self.path, error) from None
        except StoreError:
            self._next = None
            raise

    def _run(self, place: FramePlace, first: int, last: int) -> Iterator[Any]:
        """Decoded frames that hold `first` to `last`, and some before."""
        goal, end = place.start + first, place.start + len(place.checksums)
        context = self._stream.codec_context
        if self._next is None or self._next < place.start or not self._next <= goal <= self._next + self.gop:
            self._input.seek(goal * self._step, stream=self._stream)
            self._packets = self._input.demux(self._stream)
            self._next = None
        for packet in self._packets:
            if packet.pts is None or not packet.size:
                continue
            number = packet.pts // self._step
            if not place.start <= number < end or (self._next is None and number > goal):
                raise damage_error(self.path, f"frame {goal} is not where it was written")
            if zlib.crc32(packet, self._seed) != place.checksums[number - place.start]:
                raise damage_error(self.path, f"frame {number} is not what was written")
            self._next = number + 1
            yield from context.decode(packet)
            if number + 1 == end:
                break
        # What the decoder still holds back; after that it has to start at a key frame.
        self._next = None
        yield from context.decode(None)


def _open(file: Path | io.BytesIO, rate: Fraction, name: Path | str) -> tuple[InputContainer, VideoStream, int]:
    """A video, its stream, and the stream's units of time a frame. Raises StoreError if it is not ours to decode."""
    try:
        container = open_video(file, strict=False)
    except (MediaError, OSError, ValueError, av.FFmpegError) as error:
        raise damage_error(name, error) from None
    for stream in container.streams.video:
        # A codec that is not known has no context, whatever the types say.
        step = 1 / (rate * stream.time_base) if stream.time_base else Fraction(0)
        if cast(Any, stream.codec_context) is not None and step >= 1 and step.denominator == 1:
            return container, stream, int(step)
    container.close()
    raise damage_error(name, f"it holds no video of {rate} frames a second")


def damage_error(path: Path | str, why: object) -> StoreError:
    """The error of a video file that is not what was written."""
    return StoreError(f"{path} cannot be read ({why}); `dvc checkout` or `dvc repro` restores it")
