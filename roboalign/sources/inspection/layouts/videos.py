"""Recognises a folder of videos by its JSON Lines manifest."""

import io
from itertools import islice

import av

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.inspection.layouts.layout import VIDEOS, Column, Layout, format_shape, pick_actions
from roboalign.sources.inspection.summary import shorten
from roboalign.sources.readers.columns import numbers
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.videos import LINE, entry, file_path, read_table
from roboalign.store.media import MediaError, open_video, upright_frame, video_stream
from roboalign.types import Json

LOOKED_FOR = "*.jsonl whose lines name a video (a folder of videos)"
LINES = 20
"""Largest number of lines of the manifest that are read."""


def recognise(files: Files) -> Layout | None:
    """Return the layout by the first lines of a manifest, or None if no line names a video."""
    names = files.find("*.jsonl") or [name for name in ("episodes.jsonl",) if files.exists(name)]
    for name in sorted(names, key=lambda each: (each != "episodes.jsonl", each)):
        lines: list[dict[str, Json]] = []
        with files.open(name) as file:
            for line in islice(iter(lambda: file.readline(LINE), b""), LINES):
                try:
                    lines.append(entry(line))
                except DamagedError:
                    continue
        for each in lines:
            if any(is_video(value) for value in each.values()):
                return describe(files, name, each, len(lines))
    return None


def is_video(value: Json) -> bool:
    """Whether a value is the path of a video."""
    return isinstance(value, str) and value.lower().endswith(VIDEOS)


def describe(files: Files, name: str, line: dict[str, Json], count: int) -> Layout:
    """Return the layout by a line of the manifest. Raises SourceError if its video cannot be opened."""
    paths = [key for key, value in line.items() if is_video(value)]
    cameras, rate = [], 0.0
    for key in paths:
        size, video_rate = probe_video(files, str(line[key]), key)
        cameras.append(Column(key, f"{size} at {video_rate:g} frames per second"))
        rate = rate or video_rate
    vectors = [
        Column(key, f"{width} numbers, {'in ' + value if isinstance(value, str) else 'in the lines'}", width)
        for key, value in line.items()
        if (width := width_of(files, key, value))
    ]
    texts = [
        Column(key, f'"{shorten(value, 60)}"')
        for key, value in line.items()
        if isinstance(value, str) and key not in paths and not any(column.key == key for column in vectors)
    ]
    picked = pick_actions(vectors)
    chosen: dict[str, str | float] = {} if name == "episodes.jsonl" else {"manifest": name}
    return Layout(
        "videos", f"videos with {name}, of which {count} lines were read", cameras, vectors, texts,
        chosen | {"fps": round(rate, 6)}, picked,
    )  # fmt: skip


def probe_video(files: Files, path: str, key: str) -> tuple[str, float]:
    """Return the size (height x width) and the frames per second of a video. Raises SourceError if it cannot be
    opened."""
    try:
        with files.open(file_path(path, key)) as file, open_video(file) as container:
            stream = video_stream(container)
            first = next(container.decode(stream))
            return format_shape(upright_frame(first).shape[:2]), float(stream.average_rate or 0)
    except MediaError as error:
        raise SourceError(f"{files.uri}: the video {path} {error}") from None
    except (DamagedError, OSError, ValueError, StopIteration, av.error.FFmpegError) as error:
        raise SourceError(f"{files.uri}: the video {path} cannot be opened: {error or 'it is empty'}") from None


def width_of(files: Files, key: str, value: Json) -> int:
    """Return the width of a line's value: a list of rows, or the path of an `.npy` or `.npz` file; 0 for other
    values."""
    try:
        if isinstance(value, str) and value.endswith((".npy", ".npz")):
            value = read_table(io.BytesIO(files.bytes(file_path(value, key))), key)
        elif not isinstance(value, list) or not value:
            return 0
        table = numbers(value, key)
        return table.shape[1] if table.ndim == 2 else 1 if table.ndim == 1 else 0
    except (OSError, DamagedError):
        return 0
