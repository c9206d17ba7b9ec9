"""Reads videos with one JSON annotation per episode, as Ctrl-World converts DROID."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import MISSING, Columns
from roboalign.sources.readers.file_episodes import FileEpisodes
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import RawEpisode, require_key
from roboalign.sources.readers.spec import CtrlWorldSpec, VideosSpec
from roboalign.sources.readers.text import parse_json
from roboalign.sources.readers.videos import Videos, file_path, flatten
from roboalign.types import Json, UInt8

FACTOR = 1.5
"""Largest ratio between the annotated and the expected number of frames; beyond it `rows_per_frame` is wrong."""


class CtrlWorld(FileEpisodes):
    """Reads the episodes that a folder of annotations describes."""

    def __init__(self, spec: CtrlWorldSpec, files: Files) -> None:
        super().__init__(files, [f"{spec.annotations}/*.json"], spec.fps * spec.rows_per_frame, self.read_file)
        self.spec, self.files = spec, files
        self.camera = spec.cameras[0]
        videos = VideosSpec(
            kind="videos", uri=spec.uri, actions=spec.actions, action_width=spec.action_width, fps=spec.fps
        )
        self.videos = Videos(videos, files)

    def read_file(self, path: str) -> RawEpisode:
        """Read the episode of an annotation. Raises DamagedError."""
        annotation = read_annotation(self.files, path)
        cameras = video_paths(annotation)
        tables = {key: value for key, value in annotation.items() if is_table(value)}
        first = self.spec.actions[0].key
        require_key(tables, first, "action column")
        rows = len(tables[first])
        frames = -(-rows // self.spec.rows_per_frame)
        annotated_length = annotation.get("video_length")
        if isinstance(annotated_length, int) and not frames / FACTOR <= annotated_length <= frames * FACTOR:
            raise DamagedError(
                f"its '{first}' has {rows} rows, which are {frames} frames by rows_per_frame "
                f"{self.spec.rows_per_frame}, but its video_length is {annotated_length}; correct rows_per_frame"
            )

        def column(key: str) -> Any:
            if len(tables[key]) != rows:
                raise DamagedError(f"its '{key}' has {len(tables[key])} rows, but there are {rows} of '{first}'")
            return tables[key]

        def images(steps: Sequence[int]) -> Iterator[UInt8]:
            require_key(cameras, self.camera, "camera")
            numbers = [step // self.spec.rows_per_frame for step in steps]
            yield from self.videos.frames(cameras[self.camera], numbers, frames, warnings)

        warnings: list[str] = []
        attributes = {"file": path} | flatten(annotation, set())
        return RawEpisode(
            name=path,
            length=rows,
            images=images,
            columns=Columns(tables, column),
            instruction=first_text(annotation.get(self.spec.instruction_field)),
            attributes=attributes,
            warnings=warnings,
        )


def read_annotation(files: Files, path: str) -> dict[str, Json]:
    """Read an annotation. Raises DamagedError if it is invalid, SourceError if it cannot be fetched."""
    try:
        value = parse_json(files.bytes(path))
    except MISSING:
        raise DamagedError("the annotation is missing") from None
    except ValueError as error:
        raise DamagedError(f"the annotation is not JSON: {error}") from None
    except OSError as error:
        raise SourceError(f"{files.uri}/{path} cannot be fetched: {error}; run it again") from None
    if not isinstance(value, dict):
        raise DamagedError("the annotation is not a JSON object with keys and values")
    return value


def video_paths(annotation: dict[str, Json]) -> dict[str, str]:
    """Return the paths of an annotation's videos by file name without suffix. Raises DamagedError if there is no
    list."""
    videos = annotation.get("videos")
    if not isinstance(videos, list) or not all(isinstance(each, dict) for each in videos):
        raise DamagedError("the annotation has no list 'videos'")
    paths = [file_path(each.get("video_path"), "video_path") for each in videos]
    return {PurePosixPath(path).stem: path for path in paths}


def is_table(value: Json) -> bool:
    """Whether a value is a list of numbers, or of rows of numbers, judged by its first item."""
    head = value[0] if isinstance(value, list) and value else None
    head = head[0] if isinstance(head, list) and head else head
    return isinstance(head, int | float) and not isinstance(head, bool)


def first_text(value: Json) -> str:
    """Return a text, or the first one of a list; '' if there is none."""
    head = value[0] if isinstance(value, list) and value else value
    return head if isinstance(head, str) else ""
