"""Opens untrusted videos and images; no other module passes files to FFmpeg or Pillow.

FFmpeg recognises a file by its content, and playlists, SDP and concat scripts make it open any file that they name.
Therefore only the containers in FORMATS are opened, and no files that they refer to. Frames and images are returned
upright, according to the display matrix of a video or the EXIF orientation of an image.
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
"""Allowed containers by FFmpeg's name; `matroska` includes WebM, `mov` includes MP4 and M4V."""
PIXELS = 2**26
"""Largest number of pixels of a frame or image (8192 x 8192), so that a wrong size cannot exhaust memory."""
_ONE = 65536
"""The value 1 in the fixed-point format of a display matrix."""
_ORIENTATION = 0x0112
"""EXIF tag of the orientation; for values of 5 and more, height and width are swapped."""
_BAD_EXIF = (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, struct.error)


class MediaError(Exception):
    """A video or image is rejected. The message is a predicate, such as "has no video stream"."""


def open_video(source: Path | IO[bytes], *, strict: bool = True) -> InputContainer:
    """Open a container for reading.

    Args:
        source: a path, or an open file.
        strict: whether damage that FFmpeg would conceal is an error.

    Raises:
        MediaError: the file is not in one of FORMATS.
        av.FFmpegError, OSError, ValueError: the file is damaged or cannot be read.
    """
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    if strict:
        options["err_detect"] = "explode"
    # `file:` prevents a name such as `concat:a|b` from being parsed as a protocol.
    name: Any = f"file:{source}" if isinstance(source, Path) else source
    try:
        container: InputContainer = av.open(name, "r", options=options)
        return container
    except av.error.ArgumentError:  # raised for a format that is not on the list
        known = list(FORMATS.values())
        raise MediaError(f"is not an {', '.join(known[:-1])} or {known[-1]} file that can be read") from None


def video_stream(container: InputContainer) -> VideoStream:
    """Return the first video stream, set up for strict decoding. Raises MediaError if there is none that can be
    decoded."""
    if not container.streams.video:
        raise MediaError("has no video stream")
    stream = container.streams.video[0]
    # An unknown codec has no context, contrary to the type annotation.
    if cast(Any, stream.codec_context) is None:
        raise MediaError("has a codec that cannot be decoded")
    _check_size(stream.height or 0, stream.width or 0)
    stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(PIXELS)}
    return stream


def upright_frame(image: av.VideoFrame) -> UInt8:
    """Convert a frame to upright RGB (H, W, 3). Raises MediaError if it would be displayed skewed or scaled."""
    frame = image.to_ndarray(format="rgb24")
    matrix = image.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        a, b, u, c, d, v, _, _, _ = struct.unpack("=9i", bytes(cast(Any, matrix)))
        straight, turned = {abs(a), abs(d)}, {abs(b), abs(c)}
        if u or v or (straight, turned) not in (({_ONE}, {0}), ({0}, {_ONE})):
            raise MediaError("is rotated by an angle that is not a multiple of 90°; store it upright")
        # A pixel at (x, y) is shown at (a x + c y, b x + d y).
        if turned == {_ONE}:
            frame = frame.swapaxes(0, 1)
        frame = frame[:: -1 if b + d < 0 else 1, :: -1 if a + c < 0 else 1]
    return np.ascontiguousarray(frame)


@contextmanager
def open_image(source: Path | IO[bytes], formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """Open an image without decoding its pixels. Raises MediaError if it has more than PIXELS."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(source, formats=formats)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise MediaError("declares a size that is far too large") from None
    with image:
        _check_size(image.height, image.width)
        yield image


def upright_image(image: Image.Image) -> UInt8:
    """Decode an image to upright RGB (H, W, 3). Raises Pillow's exceptions if it is damaged."""
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    return np.asarray(image.convert("RGB"))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the height and width of the upright image."""
    return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or unreadable."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _BAD_EXIF:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _check_size(height: int, width: int) -> None:
    if height * width > PIXELS:
        raise MediaError(f"is {height} x {width} pixels, more than {PIXELS} in all")
