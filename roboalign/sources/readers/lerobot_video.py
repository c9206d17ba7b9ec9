"""Decodes the frames of an episode from a video that it may share with other episodes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import av
from av.container import InputContainer

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import MISSING
from roboalign.sources.readers.files import Files, unreachable
from roboalign.store.media import MediaError, open_video, upright_frame, video_stream
from roboalign.types import UInt8

EARLY = 0.25
"""Largest deviation of a frame's timestamp, as a fraction of the frame duration."""
MORE_FRAMES = "its video has frames after its last row; they are left out"
OTHER_TIMES = "the timestamps of its video do not match the data set's fps; frame k is used for row k"


def decode_own_video(
    files: Files, path: str, steps: Sequence[int], length: int, fps: float, warnings: list[str]
) -> Iterator[UInt8]:
    """Decode the frames (H, W, 3) of increasing steps from a video that contains only this episode, of `length` rows.

    Frame k belongs to row k, regardless of timestamps; deviations are added to `warnings`. One frame is in memory at a
    time.

    Raises DamagedError if there are fewer frames than rows, or if a frame cannot be decoded.
    """
    index = count = 0
    with _open(files, path) as container:
        try:
            stream = video_stream(container)
            declared = stream.frames  # 0 if the container does not declare it
            if 0 < declared < length:
                raise DamagedError(f"its video {path} has {declared} frames, not {length}")
            regular = True
            for image in container.decode(stream):
                if count < length:
                    regular = regular and abs((image.time or 0.0) - count / fps) <= EARLY / fps
                if index < len(steps) and count == steps[index]:
                    if image.is_corrupt:
                        raise DamagedError(f"frame {count} of its video {path} is damaged")
                    yield upright_frame(image)
                    index += 1
                count += 1
                if index == len(steps) and declared:
                    break
            if not declared and count < length:
                raise DamagedError(f"its video {path} has {count} frames, not {length}")
        except MediaError as error:
            raise DamagedError(f"its video {path} {error}") from None
        except (av.error.FFmpegError, ValueError, OSError) as error:
            _raise_video_error(files, path, f"frame {count}", error)
    if index < len(steps):
        raise DamagedError(f"its video {path} ends before frame {steps[index]}")
    if max(declared, count) > length:
        warnings.append(MORE_FRAMES)
    if not regular:
        warnings.append(OTHER_TIMES)


def decode_shared_video(
    files: Files, path: str, times: Sequence[float], fps: float, min_frames: int
) -> Iterator[UInt8]:
    """Decode the frames (H, W, 3) at increasing times in seconds, starting from the key frame before the first.

    One frame is in memory at a time.

    Raises DamagedError if the video has fewer than `min_frames` frames, or if a frame is missing at its time or cannot
    be decoded.
    """
    margin = EARLY / fps
    index = 0
    with _open(files, path) as container:
        try:
            stream = video_stream(container)
            if 0 < stream.frames < min_frames:
                raise DamagedError(
                    f"its video {path} has {stream.frames} frames, not the {min_frames} that its episodes need"
                )
            if times[0] > margin and stream.time_base is not None:
                container.seek(int((times[0] - margin) / stream.time_base), stream=stream)
            for image in container.decode(stream):
                if image.time is None:
                    raise DamagedError(f"a frame of its video {path} has no timestamp")
                if image.time < times[index] - margin:
                    if image.time > times[0] + margin and not _regular(image.time - times[0], fps):
                        raise DamagedError(
                            f"its video {path} has a frame at {image.time:.4f} s, between two expected frames"
                        )
                    continue
                if image.time > times[index] + margin:
                    raise DamagedError(f"its video {path} has no frame at {times[index]:.4f} s")
                if image.is_corrupt:
                    raise DamagedError(f"the frame of its video {path} at {times[index]:.4f} s is damaged")
                yield upright_frame(image)
                index += 1
                if index == len(times):
                    return
        except MediaError as error:
            raise DamagedError(f"its video {path} {error}") from None
        except (av.error.FFmpegError, ValueError, OSError) as error:
            _raise_video_error(files, path, f"{times[index]:.4f} s", error)
    raise DamagedError(f"its video {path} ends before {times[index]:.4f} s")


def _regular(passed: float, fps: float) -> bool:
    """Whether a duration is a multiple of the frame duration."""
    return abs(passed * fps - round(passed * fps)) <= EARLY


@contextmanager
def _open(files: Files, path: str) -> Iterator[InputContainer]:
    """Open a video. Raises DamagedError if it is missing or invalid."""
    try:
        file = files.open(path)
    except MISSING:
        raise DamagedError(f"its video {path} is missing") from None
    except OSError as error:
        _raise_video_error(files, path, "its start", error)
    with file:
        try:
            container = open_video(file)
        except MediaError as error:
            raise DamagedError(f"its video {path} {error}") from None
        except (av.error.FFmpegError, ValueError, OSError) as error:
            _raise_video_error(files, path, "its start", error)
        with container:
            yield container


def _raise_video_error(files: Files, path: str, position: str, error: Exception) -> NoReturn:
    """Raise SourceError if the connection or the disk failed, else DamagedError."""
    if unreachable(error) and not isinstance(error, av.error.FFmpegError):
        raise SourceError(f"{files.uri}: {path} cannot be fetched: {error}; run it again") from None
    reason = getattr(error, "strerror", None) or error
    raise DamagedError(f"its video {path} cannot be decoded at {position}: {reason}") from None
