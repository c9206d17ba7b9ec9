"""Reads videos as frames of one size: video files, folders of images, and arrays."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import av
import numpy as np
from numpy.typing import NDArray

from roboalign.io import lfs_size
from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.arrays import open_npz, read_npy
from roboalign.sources.readers.image_transform import transform_image
from roboalign.sources.readers.spec import ImageTransformSpec
from roboalign.store.media import MediaError, open_image, open_video, upright_frame, upright_image, video_stream
from roboalign.types import UInt8

CONTAINERS = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
ARRAYS = (".npy", ".npz")
LONGEST = 4096
"""Maximum number of frames that are scored; longer videos need a larger stride."""


class VideoError(Exception):
    """A video cannot be read. The message states the reason."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video resized for the judge, with properties of its file."""

    frames: UInt8
    """Frames (T, H, W, 3), resized for the judge."""
    size: tuple[int, int]
    """Height and width of the original frames in pixels."""
    fps: float | None
    """Frames per second after the stride; None if unknown."""
    palette: bool
    """Whether the file is a GIF with few colours. In a measurement this lowered scores by 2.6 of 10 points, H.264 at
    usual quality by 0.05."""


def find(folder: Path) -> dict[str, Path]:
    """All videos below a folder, by their relative path: video files, arrays, and folders with images in them.

    Names that start with a dot are skipped.
    """
    videos: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        if path.is_dir():
            if _image_files(path):
                videos[name.as_posix()] = path
        elif path.suffix.lower() in CONTAINERS + ARRAYS:
            videos[name.as_posix()] = path
    return videos


def read(path: Path, size: ImageTransformSpec, stride: int = 1, first: Path | None = None) -> Video:
    """Read a video.

    Args:
        path: A video file, an array file or a folder of images.
        size: Size and fit of the frames, as for recordings.
        stride: Read every n-th frame.
        first: An image to prepend to the frames; None for none.

    Raises:
        VideoError: A part of the video cannot be read, or it has fewer than two frames.
    """
    sizes: set[tuple[int, int]] = set()
    frames: list[UInt8] = []
    if first is not None:
        frames.append(transform_image(_read_image(first), size))
    images, fps = _open(path)
    count = 0
    for number, image in enumerate(images):
        sizes.add((image.shape[0], image.shape[1]))
        if len(sizes) > 1:
            raise VideoError(f"its frames have different sizes ({_sizes(sizes)})")
        if number % stride == 0:
            if len(frames) >= LONGEST:
                raise VideoError(f"it has more than {LONGEST} frames; cut it, or use --stride")
            frames.append(transform_image(image, size))
        count += 1
    if len(frames) < 2:
        raise VideoError(
            f"it has {count} frame{'s'[: count != 1]}, too few to show motion; at least two are needed after --stride"
        )
    return Video(
        np.stack(frames), next(iter(sizes)), None if fps is None else fps / stride, path.suffix.lower() == ".gif"
    )


def _open(path: Path) -> tuple[Iterable[UInt8], float | None]:
    """Return the frames of a video, and its frame rate if known. Raises VideoError."""
    if path.is_dir():
        return (_read_image(file) for file in _image_files(path)), None
    with path.open("rb") as file:
        if (size := lfs_size(file)) is not None:
            raise VideoError(f"it is a Git LFS pointer to {size} bytes, not the video; run `git lfs pull`")
    if path.suffix.lower() in ARRAYS:
        return _array(path), None
    return _container(path)


def _sizes(sizes: Iterable[tuple[int, int]]) -> str:
    """Sizes as text."""
    return ", ".join(f"{height} x {width}" for height, width in sorted(sizes))


def _image_files(folder: Path) -> list[Path]:
    """The images in a folder, ordered by the numbers in their names."""

    def order(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name) if part]

    files = (path for path in folder.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith("."))
    return sorted(files, key=order)


def _read_image(path: Path) -> UInt8:
    """Read an image as (H, W, 3). Raises VideoError."""
    try:
        with open_image(path) as image:
            return upright_image(image)
    except MediaError as error:
        raise VideoError(f"{path.name} {error}") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise VideoError(f"{path.name} cannot be read as an image ({_short(error)})") from None


def _array(path: Path) -> UInt8:
    """Read frames (T, H, W, 3), uint8 or floats in [0, 1], from an array file as uint8. Raises VideoError."""
    try:
        with path.open("rb") as file:
            array = _one_array(file) if path.suffix.lower() == ".npz" else read_npy(file)
    except (DamagedError, OSError) as error:
        raise VideoError(f"it cannot be read as an array ({_short(error)})") from None
    if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        raise VideoError(f"its array has shape {array.shape}; frames must be (T, H, W, 3), RGB")
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if not np.issubdtype(array.dtype, np.floating):
        raise VideoError(f"its array has dtype {array.dtype}; frames must be uint8, or floats in [0, 1]")
    values = array.astype(np.float32)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise VideoError("its array has NaN or values outside [0, 1]; frames must be uint8, or floats in [0, 1]")
    return (values * 255).round().astype(np.uint8)


def _one_array(file: IO[bytes]) -> NDArray[np.generic]:
    """Read the array with the frames from an `.npz` file: `frames`, `video`, or the only one.

    Raises DamagedError, and VideoError if there are several arrays with other names.
    """
    with open_npz(file) as arrays:
        names = [name for name in ("frames", "video") if name in arrays] or list(arrays)
        if len(names) != 1:
            raise VideoError(f"it has {len(arrays)} arrays; name the one with the frames 'frames'")
        return arrays[names[0]]


def _container(path: Path) -> tuple[Iterator[UInt8], float | None]:
    """The frames and the frame rate of a video file. Raises VideoError."""
    try:
        with open_video(path) as container:
            rate = video_stream(container).average_rate
    except MediaError as error:
        raise VideoError(f"it {error}") from None
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise VideoError(f"it cannot be opened ({_short(error)})") from None
    return _decode_frames(path), None if not rate else float(rate)


def _decode_frames(path: Path) -> Iterator[UInt8]:
    """The frames of a video file. Raises VideoError if a frame is damaged or the file is truncated."""
    start = end = None
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            stream.thread_type = "AUTO"
            step = 1 / float(stream.average_rate) if stream.average_rate else 0.0
            duration = None
            if stream.duration is not None and stream.time_base is not None:
                duration = float(stream.duration * stream.time_base)
            elif container.duration is not None:
                duration = container.duration / av.time_base
            for image in container.decode(stream):
                if image.is_corrupt:
                    raise VideoError("it has a damaged frame")
                if image.time is not None:
                    start = image.time if start is None else start
                    end = image.time + step
                yield upright_frame(image)
    except MediaError as error:
        raise VideoError(f"it {error}") from None
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise VideoError(f"it cannot be decoded ({_short(error)})") from None
    # A truncated file may decode without an error up to its end.
    if duration is not None and start is not None and end is not None and end - start < 0.9 * duration - 2 * step:
        raise VideoError(f"it ends after {end - start:.1f} of {duration:.1f} seconds: the file is truncated")


def _short(error: Exception) -> str:
    """The first line of an error's message, without a repeated path."""
    text = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[Errno \d+\] ", "", text[0]).split(": '")[0][:200]
