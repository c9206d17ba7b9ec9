"""The frames of an episode out of a video that it may share with others."""

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
"""Share of a frame's duration by which a frame may come early or late; more, and it is another frame."""
MORE_FRAMES = "its video has frames after its last row; they are left out"
OTHER_TIMES = "its video does not show its frames at the times of the data set's fps; frame k is taken for row k"


def frames_of_own(
    files: Files, path: str, steps: Sequence[int], length: int, fps: float, warnings: list[str]
) -> Iterator[UInt8]:
    """(H, W, 3) of each of the increasing steps out of a video that holds one episode of `length` rows.

    Frame k belongs to row k, whatever its time. Raises DamagedError if there are fewer frames than rows, or one cannot
    be decoded. One frame is in memory at a time.
    """
    place = count = 0
    with _open(files, path) as container:
        try:
            stream = video_stream(container)
            told = stream.frames  # 0 if the container does not say
            if 0 < told < length:
                raise DamagedError(f"its video {path} has {told} frames, not {length}")
            regular = True
            for image in container.decode(stream):
                if count < length:
                    regular = regular and abs((image.time or 0.0) - count / fps) <= EARLY / fps
                if place < len(steps) and count == steps[place]:
                    if image.is_corrupt:
                        raise DamagedError(f"frame {count} of its video {path} is damaged")
                    yield upright_frame(image)
                    place += 1
                count += 1
                if place == len(steps) and told:
                    break
            if not told and count < length:
                raise DamagedError(f"its video {path} has {count} frames, not {length}")
        except MediaError as error:
            raise DamagedError(f"its video {path} {error}") from None
        except (av.error.FFmpegError, ValueError, OSError) as error:
            _refuse(files, path, f"frame {count}", error)
    if place < len(steps):
        raise DamagedError(f"its video {path} ends before frame {steps[place]}")
    if max(told, count) > length:
        warnings.append(MORE_FRAMES)
    if not regular:
        warnings.append(OTHER_TIMES)


def frames_of_shared(files: Files, path: str, times: Sequence[float], fps: float, least: int) -> Iterator[UInt8]:
    """(H, W, 3) at each of the increasing times in seconds; decodes from the key frame before the first to the last.

    Raises DamagedError if the video holds fewer frames than `least`, a frame is not at its time, or cannot be decoded.
    One frame is in memory at a time.
    """
    margin = EARLY / fps
    place = 0
    with _open(files, path) as container:
        try:
            stream = video_stream(container)
            if 0 < stream.frames < least:
                raise DamagedError(
                    f"its video {path} has {stream.frames} frames, not the {least} that its episodes need"
                )
            if times[0] > margin and stream.time_base is not None:
                container.seek(int((times[0] - margin) / stream.time_base), stream=stream)
            for image in container.decode(stream):
                if image.time is None:
                    raise DamagedError(f"a frame of its video {path} does not say when it is shown")
                if image.time < times[place] - margin:
                    if image.time > times[0] + margin and not _regular(image.time - times[0], fps):
                        raise DamagedError(f"its video {path} has a frame at {image.time:.4f} s, between two others")
                    continue
                if image.time > times[place] + margin:
                    raise DamagedError(f"its video {path} has no frame at {times[place]:.4f} s")
                if image.is_corrupt:
                    raise DamagedError(f"the frame of its video {path} at {times[place]:.4f} s is damaged")
                yield upright_frame(image)
                place += 1
                if place == len(times):
                    return
        except MediaError as error:
            raise DamagedError(f"its video {path} {error}") from None
        except (av.error.FFmpegError, ValueError, OSError) as error:
            _refuse(files, path, f"{times[place]:.4f} s", error)
    raise DamagedError(f"its video {path} ends before {times[place]:.4f} s")


def _regular(passed: float, fps: float) -> bool:
    """Whether a time is a multiple of a frame's duration."""
    return abs(passed * fps - round(passed * fps)) <= EARLY


@contextmanager
def _open(files: Files, path: str) -> Iterator[InputContainer]:
    """The video, open. Raises DamagedError if it is missing or not a video."""
    try:
        file = files.open(path)
    except MISSING:
        raise DamagedError(f"its video {path} is missing") from None
    except OSError as error:
        _refuse(files, path, "its start", error)
    with file:
        try:
            container = open_video(file)
        except MediaError as error:
            raise DamagedError(f"its video {path} {error}") from None
        except (av.error.FFmpegError, ValueError, OSError) as error:
            _refuse(files, path, "its start", error)
        with container:
            yield container


def _refuse(files: Files, path: str, place: str, error: Exception) -> NoReturn:
    """Raise SourceError if a connection or a disk failed, else DamagedError."""
    if unreachable(error) and not isinstance(error, av.error.FFmpegError):
        raise SourceError(f"{files.uri}: {path} cannot be fetched: {error}; run it again") from None
    reason = getattr(error, "strerror", None) or error
    raise DamagedError(f"its video {path} cannot be decoded at {place}: {reason}") from None
