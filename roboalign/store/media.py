"""Opening videos and pictures that others wrote: the only place where FFmpeg and Pillow meet a file.

FFmpeg recognises a file by its content, and playlists, SDP and concat scripts make it open whatever they name. Only the
containers in FORMATS are opened, and nothing that they refer to. Frames and pictures come upright, as they are meant to
be shown: by a video's display matrix, by a picture's EXIF orientation.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from PIL import Image, ImageOps

from roboalign.types import UInt8

FORMATS = {"avi": "AVI", "gif": "GIF", "matroska": "Matroska", "mov": "MP4"}
"""The containers that are opened, by FFmpeg's name; `matroska` includes WebM, `mov` MOV and M4V."""
PIXELS = 2**26
"""Pixels of a frame or picture at most (8192 x 8192): a false size must not ask for memory."""
_ONE = 65536
"""1 in the fixed-point numbers of a display matrix."""
_ORIENTATION = 0x0112
"""EXIF's tag of the orientation; from 5 on, height and width change places."""
_BAD_EXIF = (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, struct.error)


class MediaError(Exception):
    """A video or picture that is not used. The message is a predicate: "has no pictures"."""


def open_video(source: Path | IO[bytes], *, strict: bool = True) -> InputContainer:
    """A container for reading.

    Args:
        source: A path, or a file that is open.
        strict: Whether damage is an error where FFmpeg would conceal it.

    Raises:
        MediaError: It is not one of FORMATS.
        av.FFmpegError, OSError, ValueError: It is damaged or cannot be read.
    """
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    if strict:
        options["err_detect"] = "explode"
    # `file:` keeps a name such as `concat:a|b` from being taken for a protocol.
    name: Any = f"file:{source}" if isinstance(source, Path) else source
    try:
        container: InputContainer = av.open(name, "r", options=options)
        return container
    except av.error.ArgumentError:  # FFmpeg's answer to a format that is not on the list
        known = list(FORMATS.values())
        raise MediaError(f"is not an {', '.join(known[:-1])} or {known[-1]} file that can be read") from None


def video_stream(container: InputContainer) -> VideoStream:
    """The first video stream, to be decoded strictly. Raises MediaError if there is none that can be decoded."""
    if not container.streams.video:
        raise MediaError("has no pictures")
    stream = container.streams.video[0]
    # A codec that is not known has no context, whatever the types say.
    if cast(Any, stream.codec_context) is None:
        raise MediaError("is of a codec that cannot be decoded")
    _check_size(stream.height or 0, stream.width or 0)
    stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(PIXELS)}
    return stream


def upright_frame(image: av.VideoFrame) -> UInt8:
    """The frame (H, W, 3), RGB, as it is to be shown. Raises MediaError if it is to be shown askew or scaled."""
    frame = image.to_ndarray(format="rgb24")
    matrix = image.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        a, b, u, c, d, v, _, _, _ = struct.unpack("=9i", bytes(cast(Any, matrix)))
        straight, turned = {abs(a), abs(d)}, {abs(b), abs(c)}
        if u or v or (straight, turned) not in (({_ONE}, {0}), ({0}, {_ONE})):
            raise MediaError("is to be turned by no multiple of 90° when it is shown; store it upright")
        # A pixel at (x, y) is shown at (a x + c y, b x + d y).
        if turned == {_ONE}:
            frame = frame.swapaxes(0, 1)
        frame = frame[:: -1 if b + d < 0 else 1, :: -1 if a + c < 0 else 1]
    return np.ascontiguousarray(frame)


@contextmanager
def open_picture(source: Path | IO[bytes], formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """A picture whose pixels are not decoded yet. Raises MediaError if it claims more than PIXELS."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(source, formats=formats)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise MediaError("claims to be far too large") from None
    with image:
        _check_size(image.height, image.width)
        yield image


def upright_picture(image: Image.Image) -> UInt8:
    """The picture (H, W, 3), RGB, as it is to be shown. Raises what Pillow raises for damaged ones."""
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    return np.asarray(image.convert("RGB"))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width as it is to be shown."""
    return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 if the picture has none that can be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except _BAD_EXIF:
        return 1
    return found if found in range(1, 9) else 1


def _check_size(height: int, width: int) -> None:
    if height * width > PIXELS:
        raise MediaError(f"is {height} x {width} pixels, more than {PIXELS} in all")
