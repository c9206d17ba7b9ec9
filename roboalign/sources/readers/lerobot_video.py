"""The frames of an episode out of a video that it may share with others."""

from collections.abc import Iterator, Sequence

import av
import numpy as np

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import MISSING
from roboalign.sources.readers.files import Files, unreachable
from roboalign.types import UInt8

EARLY = 0.25
"""Share of a frame's duration by which a frame may come early or late; more, and it is another frame."""
_STRICT = {"err_detect": "explode"}


def frames(
    files: Files, path: str, times: Sequence[float], fps: float, *, exactly: int = 0, least: int = 0
) -> Iterator[UInt8]:
    """(H, W, 3) at each of the increasing times in seconds; decodes from the key frame before the first to the last.

    The video has to hold `exactly` or at `least` so many frames, where that is not 0. Raises DamagedError where it
    does not, a frame is not at its time, or cannot be decoded. One frame is in memory at a time.
    """
    margin = EARLY / fps
    place = 0
    try:
        with files.open(path) as file, av.open(file, "r", options=_STRICT) as container:
            if not container.streams.video:
                raise DamagedError(f"its video {path} has no pictures")
            stream = container.streams.video[0]
            held = stream.frames  # 0 where the container does not say
            if held and ((exactly and held != exactly) or held < least):
                few = f"{exactly}" if exactly else f"the {least} that its episodes need"
                raise DamagedError(f"its video {path} has {held} frames, not {few}")
            if stream.codec_context is None:
                raise DamagedError(f"its video {path} is of a codec that cannot be decoded")
            stream.codec_context.options = _STRICT
            if times[0] > margin and stream.time_base is not None:
                container.seek(int((times[0] - margin) / stream.time_base), stream=stream)
            for image in container.decode(stream):
                if image.time is None:
                    raise DamagedError(f"a frame of its video {path} does not say when it is shown")
                if image.time < times[place] - margin:
                    continue
                if image.time > times[place] + margin:
                    raise DamagedError(f"its video {path} has no frame at {times[place]:.4f} s")
                if image.is_corrupt:
                    raise DamagedError(f"the frame of its video {path} at {times[place]:.4f} s is damaged")
                if image.rotation:
                    raise DamagedError(f"its video {path} is to be turned by {image.rotation}° when it is shown")
                yield np.ascontiguousarray(image.to_ndarray(format="rgb24"))
                place += 1
                if place == len(times):
                    return
    except MISSING:
        raise DamagedError(f"its video {path} is missing") from None
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if unreachable(error) and not isinstance(error, av.error.FFmpegError):
            raise SourceError(f"{files.uri}: {path} cannot be fetched: {error}; run it again") from None
        reason = getattr(error, "strerror", None) or error
        raise DamagedError(f"its video {path} cannot be decoded at {times[place]:.4f} s: {reason}") from None
    raise DamagedError(f"its video {path} ends before {times[place]:.4f} s")
