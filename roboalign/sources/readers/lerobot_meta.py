"""What a LeRobotDataset says of itself under `meta/`: its features, tasks, and where each episode lies."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import MISSING
from roboalign.sources.readers.files import Files, unreachable
from roboalign.sources.readers.reader import Damaged
from roboalign.types import Json

INFO = "meta/info.json"
V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
V3_EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
BAD_PARQUET = (pa.ArrowException, OSError, ValueError, EOFError)
"""What pyarrow raises on damaged files."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An episode by the index: where it lies, and what is known of it."""

    number: int
    length: int
    data: str
    """The Parquet file with its rows."""
    video: str = ""
    """The camera's video; empty where pictures are in the Parquet file."""
    start: float = 0.0
    """Where it begins in that video, in seconds."""
    alone: bool = True
    """Whether both files hold no other episode."""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"episode_{self.number:06d}"


@dataclass(frozen=True)
class Meta:
    """The description of a data set."""

    version: int
    """2 or 3."""
    fps: float
    features: Mapping[str, Json]
    chunk: int
    """Episodes (version 2) or files (version 3) of one folder."""
    total: int | None
    """Episodes there should be."""
    data: str
    video: str
    """Templates of paths."""

    def kind(self, key: str) -> str:
        """The dtype of a feature."""
        return str(self.features[key].get("dtype", ""))


def open_meta(files: Files) -> Meta:
    """Parse `meta/info.json`. Raises SourceError where it is missing, garbled, or of a version that cannot be read."""
    try:
        info = json.loads(files.bytes(INFO))
    except MISSING:
        raise SourceError(f"{files.uri} has no {INFO}; `uri` is the folder that holds `meta/`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{files.uri}: {INFO} cannot be read: {error}") from None
    try:
        version = str(info["codebase_version"])
        number = {"v2.0": 2, "v2.1": 2, "v3.0": 3}.get(version)
        if number is None:
            raise SourceError(
                f"{files.uri} is a LeRobotDataset of version {version}; 2.0, 2.1 and 3.0 can be read, "
                "and LeRobot's own scripts convert older ones"
            )
        fps = float(info["fps"])
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps is {fps}")
        features = {str(key): dict(value) for key, value in info["features"].items()}
        total = info.get("total_episodes")
        default = (V2_DATA, V2_VIDEO) if number == 2 else (V3_DATA, V3_VIDEO)
        return Meta(
            number,
            fps,
            features,
            max(1, int(info.get("chunks_size") or 1000)),
            None if total is None else int(total),
            str(info.get("data_path") or default[0]),
            str(info.get("video_path") or default[1]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SourceError(f"{files.uri}: {INFO} is garbled ({type(error).__name__}: {error})") from None


def dimension_names(names: Json, width: int) -> tuple[str, ...]:
    """The names of a feature's dimensions; () if `names`, a list or a mapping of lists, does not give one for each."""
    lists = list(names.values()) if isinstance(names, dict) else [names]
    if not all(isinstance(each, list) for each in lists):
        return ()
    listed = [name for each in lists for name in each]
    if len(listed) != width or not all(isinstance(name, str) for name in listed):
        return ()
    return tuple(listed)


def tasks(meta: Meta, files: Files) -> dict[int, str]:
    """The instructions by their number. Raises SourceError where their table is missing or garbled."""
    name = "meta/tasks.jsonl" if meta.version == 2 else "meta/tasks.parquet"
    try:
        if meta.version == 2:
            lines = [line for line in files.bytes(name).splitlines() if line.strip()]
            return {int(row["task_index"]): str(row["task"]) for row in map(json.loads, lines)}
        with files.open(name) as file:
            table = pq.read_table(file)
        # pandas wrote the text as its index, which has this or that name.
        (text,) = [column for column in table.column_names if column != "task_index"]
        return dict(zip(table["task_index"].to_pylist(), map(str, table[text].to_pylist()), strict=True))
    except MISSING:
        raise SourceError(f"{files.uri} has no {name}, where its instructions are") from None
    except (*BAD_PARQUET, KeyError, TypeError) as error:
        raise SourceError(f"{files.uri}: {name} cannot be read: {error}") from None


def episodes(meta: Meta, files: Files, camera: str) -> list[Entry | Damaged]:
    """All episodes by the index; what is listed wrongly, twice, or not at all comes as `Damaged`."""
    found: list[Entry | Damaged] = []
    seen: set[int] = set()
    rows = _rows_v2(files) if meta.version == 2 else _rows_v3(meta, files)
    for name, row in rows:
        if isinstance(row, Damaged):
            found.append(row)
            continue
        try:
            entry = _entry(meta, row, camera)
            if entry.number in seen:
                raise DamagedError(f"episode {entry.number} is listed twice")
            seen.add(entry.number)
            found.append(entry)
        except DamagedError as error:
            found.append(Damaged(name, str(error)))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            found.append(Damaged(name, f"it does not describe an episode ({type(error).__name__}: {error})"))
    if meta.total is not None and len(missing := sorted(set(range(meta.total)) - seen)):
        listed = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        reason = f"{len(missing)} of the {meta.total} episodes in {INFO} are not listed: {listed}"
        found.append(Damaged("meta", reason, len(missing)))
    return found


def _rows_v2(files: Files) -> Iterator[tuple[str, dict[str, Json] | Damaged]]:
    name = "meta/episodes.jsonl"
    try:
        content = files.bytes(name)
    except MISSING:
        raise SourceError(f"{files.uri} has no {name}, where its episodes are listed") from None
    for number, line in enumerate(content.splitlines(), 1):
        place = f"{name}:{number}"
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                row = Damaged(place, f"the line is no JSON: {error}")
            yield place, row


def _rows_v3(meta: Meta, files: Files) -> Iterator[tuple[str, dict[str, Json] | Damaged]]:
    found = 0
    for number in range(1_000_000):
        name = V3_EPISODES.format(chunk_index=number // meta.chunk, file_index=number % meta.chunk)
        try:
            with files.open(name) as file:
                source = pq.ParquetFile(file)
                # Statistics and checksums are most of the table, and nothing is read of them.
                bulk = ("stats/", "meta/")
                kept = [c for c in source.schema_arrow.names if not c.startswith(bulk) and not c.endswith("/crc32")]
                rows = source.read(columns=kept).to_pylist()
        except MISSING:
            if found or number:
                return
            raise SourceError(f"{files.uri} has no {name}, where its episodes are listed") from None
        except BAD_PARQUET as error:
            if unreachable(error):
                raise SourceError(f"{files.uri}: {name} cannot be fetched: {error}; run it again") from None
            yield name, Damaged(name, f"this list of episodes cannot be read: {error}")
            continue
        found += len(rows)
        for index, row in enumerate(rows):
            yield f"{name}#{index}", row


def _entry(meta: Meta, row: dict[str, Json], camera: str) -> Entry:
    number, length = int(row["episode_index"]), int(row["length"])
    if number < 0 or length < 0:
        raise DamagedError(f"it lists episode {number} with {length} frames")
    known = {key: value for key, value in row.items() if "/" not in key and isinstance(value, str | bool | int | float)}
    attributes = {key: _as_text(value) for key, value in known.items()}
    words = row.get("tasks")
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        attributes["tasks"] = "; ".join(words)
    video = meta.kind(camera) == "video"
    if meta.version == 2:
        values = {"episode_chunk": number // meta.chunk, "episode_index": number, "video_key": camera}
        path = _inside(meta.video.format(**values)) if video else ""
        return Entry(number, length, _inside(meta.data.format(**values)), path, 0.0, True, attributes)
    data = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
    path, start = "", 0.0
    if video:
        if row.get(f"videos/{camera}/file_index") is None:
            raise DamagedError(f"it has no video of the camera '{camera}'")
        place = {key: int(row[f"videos/{camera}/{key}"]) for key in ("chunk_index", "file_index")}
        path = _inside(meta.video.format(video_key=camera, **place))
        start, stop = (float(row[f"videos/{camera}/{key}"]) for key in ("from_timestamp", "to_timestamp"))
        if not (math.isfinite(start) and start >= 0 and abs(stop - start - length / meta.fps) < 0.5 / meta.fps):
            raise DamagedError(
                f"its video lasts from {start:g} to {stop:g} s, which is not {length} frames at {meta.fps:g} a second"
            )
    return Entry(number, length, _inside(meta.data.format(**data)), path, start, False, attributes)


def _inside(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "://" in path:
        raise DamagedError(f"its file {path} lies outside of the data set")
    return path


def _as_text(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
