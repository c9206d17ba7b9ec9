"""Stores frames as H.264 or AV1 video: clips of single episodes, concatenated to large files without re-encoding.

Every episode starts with a key frame and no frame refers to a later one, so packets are copied in order. The checksum
of each packet is stored with the episode, so that damage on disk is detected before decoding.
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
from roboalign.store.spec import ImageFormat, StorageSpec
from roboalign.types import UInt8

# Without `btrt`, whose bit rate would depend on how a file was assembled.
_BITEXACT = {"fflags": "+bitexact", "write_btrt": "0"}


def encode_clip(frames: UInt8, rate: Fraction, images: ImageFormat, storage: StorageSpec) -> bytes:
    """Encode frames (T, H, W, 3) as an mp4 file. Deterministic: one thread, and no time stamps or paths in the file."""
    options = {"crf": str(storage.crf), "g": str(storage.gop), "flags": "+bitexact"}
    match images:
        case "h264":
            codec = "libx264"
            # Scene cut detection would move the key frames, and B-frames would have to be reordered. `fastdecode`
            # decodes 2.5 times as fast at the same error, for a sixth more bytes.
            options |= {"preset": "veryfast", "tune": "fastdecode", "bf": "0", "sc_threshold": "0"}
            # x264's macroblock tree reads uninitialised memory if a frame is few macroblocks wide, so that the output
            # is not deterministic. Without it, frames of 320x256 take a twelfth more bytes.
            options["mbtree"] = "0"
        case "av1":
            codec = "libsvtav1"
            # The encoder prints to standard error by default. `pred-struct` 1: no frame refers to a later one.
            os.environ.setdefault("SVT_LOG", "1")
            options |= {"preset": "8", "svtav1-params": "lp=1:pred-struct=1:fast-decode=1"}
        case "png":
            raise ValueError("PNG is not a video format")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options=_BITEXACT) as output:
        stream = cast(VideoStream, output.add_stream(codec, rate=rate, options=options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = 1 / rate
        reformatter = VideoReformatter()
        for number, frame in enumerate(frames):
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            planar = reformatter.reformat(rgb, format="yuv420p", threads=1)
            planar.pts, planar.time_base = number, 1 / rate
            output.mux(stream.encode(planar))
        output.mux(stream.encode())
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class VideoLocation:
    """Location of an episode in the video files."""

    file: int
    start: int
    """Index of its first frame in the file."""
    checksums: NDArray[np.uint32]
    """CRC-32 (T,) of the decoder's settings and the packet of each frame."""


class VideoFile:
    """A video file under construction, to which packets of clips are appended."""

    def __init__(self, path: Path, number: int, rate: Fraction) -> None:
        self.path, self.number, self.rate = path, number, rate
        self.frames = self.size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._output = av.open(str(path), "w", format="mp4", options=_BITEXACT)
        self._stream: Any = None
        self._header: bytes | None = None

    def takes(self, packets: "Packets") -> bool:
        """Whether a clip can be appended: it needs the same decoder settings as the earlier ones."""
        return self._header in (None, packets.header)

    def append(self, packets: "Packets") -> VideoLocation:
        """Append the packets of a clip. Returns its location."""
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
        return VideoLocation(self.number, start, np.array(checksums, np.uint32))

    def close(self) -> None:
        """Finish the file."""
        self._output.close()


class Packets:
    """Iterates over the packets of the frames `start` to `start + length` of a video; a context manager.

    Raises StoreError if the video is damaged.
    """

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
                    raise damage_error(self.name, f"the checksum of frame {number} is wrong")
                expected += 1
                yield packet, checksum
        except (OSError, av.FFmpegError) as error:
            raise damage_error(self.name, error) from None
        if expected != self.start + self.length:
            raise damage_error(self.name, f"it ends at frame {expected}, not {self.start + self.length}")


class VideoReader:
    """Reads frames of one video file by index. The file stays open, and reading forwards is cheaper than seeking."""

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

    def read(self, location: VideoLocation, numbers: Sequence[int], out: UInt8) -> None:
        """Decode frames of an episode into `out` (len(numbers), H, W, 3). Raises StoreError if the file is damaged.

        Args:
            location: location of the episode.
            numbers: increasing frame indices, relative to the episode.
            out: the decoded frames, RGB.
        """
        done = 0
        try:
            while done < len(numbers):
                # Skipped frames within a group of pictures are decoded; beyond that, seeking is cheaper.
                stop = done + 1
                while stop < len(numbers) and numbers[stop] - numbers[stop - 1] <= self.gop:
                    stop += 1
                for frame in self._run(location, numbers[done], numbers[stop - 1]):
                    number = frame.pts // self._step - location.start
                    if number == numbers[done]:
                        if (frame.height, frame.width) != out.shape[1:3]:
                            raise damage_error(self.path, f"its frames are {frame.height}x{frame.width}")
                        copy_rgb(self._reformatter.reformat(frame, format="rgb24", threads=1), out[done])
                        done += 1
                        if done == stop:
                            break
                if done != stop:
                    raise damage_error(self.path, f"frame {location.start + numbers[done]} is missing")
        except (OSError, av.FFmpegError) as error:
            self._next = None
            raise damage_error(self.path, error) from None
        except StoreError:
            self._next = None
            raise

    def _run(self, location: VideoLocation, first: int, last: int) -> Iterator[Any]:
        """Yield decoded frames that include `first` to `last`, and some earlier ones."""
        target, end = location.start + first, location.start + len(location.checksums)
        context = self._stream.codec_context
        if self._next is None or self._next < location.start or not self._next <= target <= self._next + self.gop:
            self._input.seek(target * self._step, stream=self._stream)
            self._packets = self._input.demux(self._stream)
            self._next = None
        for packet in self._packets:
            if packet.pts is None or not packet.size:
                continue
            number = packet.pts // self._step
            if not location.start <= number < end or (self._next is None and number > target):
                raise damage_error(self.path, f"frame {target} is not at the recorded position")
            if zlib.crc32(packet, self._seed) != location.checksums[number - location.start]:
                raise damage_error(self.path, f"the checksum of frame {number} is wrong")
            self._next = number + 1
            yield from context.decode(packet)
            if number + 1 == end:
                break
        # Flush the decoder, which then has to restart at a key frame.
        self._next = None
        yield from context.decode(None)


def _open(file: Path | io.BytesIO, rate: Fraction, name: Path | str) -> tuple[InputContainer, VideoStream, int]:
    """Open a video. Returns the container, the stream, and the duration of a frame in the stream's time base.

    Raises StoreError if the video was not written by this module.
    """
    try:
        container = open_video(file, strict=False)
    except (MediaError, OSError, ValueError, av.FFmpegError) as error:
        raise damage_error(name, error) from None
    for stream in container.streams.video:
        # An unknown codec has no context, contrary to the type annotation.
        step = 1 / (rate * stream.time_base) if stream.time_base else Fraction(0)
        if cast(Any, stream.codec_context) is not None and step >= 1 and step.denominator == 1:
            return container, stream, int(step)
    container.close()
    raise damage_error(name, f"it contains no video with {rate} frames per second")


def damage_error(path: Path | str, reason: object) -> StoreError:
    """Return the error for a damaged video file."""
    return StoreError(f"{path} cannot be read ({reason}); `dvc checkout` or `dvc repro` restores it")
