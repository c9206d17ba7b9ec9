"""Reads the metadata of a LeRobotDataset under `meta/`: features, tasks, and the files of each episode."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from roboalign.errors import printable
from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import FPS, MISSING, STEPS
from roboalign.sources.readers.files import Files, inside, unreachable
from roboalign.sources.readers.reader import Damaged
from roboalign.sources.readers.text import parse_json
from roboalign.types import Json

INFO = "meta/info.json"
V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
V3_EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
LARGEST = 10**9
"""Largest number of an episode, chunk or file."""
_VERSION = {"v2.0": 2, "v2.1": 2, "v3.0": 3}
_PLACEHOLDER = re.compile(r"\{(\w+)(?::0?([0-9]{1,2})d)?\}")
"""Placeholder in a path template: a name, and the number of digits for zero-padding."""
BAD_PARQUET = (pa.ArrowException, OSError, ValueError, EOFError)
"""Exceptions of pyarrow for damaged files."""


@dataclass(frozen=True, slots=True)
class MetadataEntry:
    """Index entry of an episode: its files and attributes."""

    number: int
    length: int
    data: str
    """Parquet file with the rows of the episode."""
    video: str = ""
    """Video of the camera; empty if images are in the Parquet file."""
    start: float = 0.0
    """Start of the episode in that video, in seconds."""
    alone: bool = True
    """Whether both files contain only this episode."""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the episode in messages."""
        return f"episode_{self.number:06d}"


@dataclass(frozen=True)
class Meta:
    """Description of a LeRobotDataset."""

    version: int
    """Major version: 2 or 3."""
    codebase: str
    """Version as written by LeRobot, such as v2.1."""
    fps: float
    features: Mapping[str, Json]
    chunk: int
    """Number of episodes (version 2) or files (version 3) in one folder."""
    total: int | None
    """Declared number of episodes; None if it is not declared."""
    data: str
    video: str
    """Path template of the videos; `data` is that of the Parquet files."""

    def kind(self, key: str) -> str:
        """Return the dtype of a feature."""
        return str(self.features[key].get("dtype", ""))


def open_meta(files: Files) -> Meta:
    """Parse `meta/info.json`. Raises SourceError if it is missing, garbled, or of an unsupported version."""
    try:
        info = parse_json(files.bytes(INFO))
    except MISSING:
        raise SourceError(f"{files.uri} has no {INFO}; `uri` is the folder that contains `meta/`") from None
    except (DamagedError, OSError, ValueError) as error:
        raise SourceError(f"{files.uri}: {INFO} cannot be read: {error}") from None
    try:
        version = str(info["codebase_version"])
        number = _VERSION.get(version)
        if number is None:
            raise SourceError(
                f"{files.uri} is a LeRobotDataset of version {printable(version[:20])}; 2.0, 2.1 and 3.0 can be read, "
                "and LeRobot's own scripts convert older ones"
            )
        fps = float(info["fps"])
        if not FPS[0] <= fps <= FPS[1]:
            raise ValueError(f"fps is {fps:g}, not {FPS[0]:g} to {FPS[1]:g}")
        # A malformed feature is an error only if the spec names it.
        features = {key: value for key, value in info["features"].items() if isinstance(value, dict)}
        total, chunk = info.get("total_episodes"), info.get("chunks_size")
        default = (V2_DATA, V2_VIDEO) if number == 2 else (V3_DATA, V3_VIDEO)
        return Meta(
            number,
            version,
            fps,
            features,
            chunk if isinstance(chunk, int) and 0 < chunk <= LARGEST else 1000,
            total if isinstance(total, int) and 0 <= total <= LARGEST else None,
            str(info.get("data_path") or default[0]),
            str(info.get("video_path") or default[1]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SourceError(f"{files.uri}: {INFO} is garbled ({type(error).__name__}: {error})") from None


def dimension_names(names: Json, width: int) -> tuple[str, ...]:
    """Return the names of a feature's dimensions; () if `names`, a list or a mapping of lists, does not name each
    one."""
    lists = list(names.values()) if isinstance(names, dict) else [names]
    if not all(isinstance(each, list) for each in lists):
        return ()
    listed = [name for each in lists for name in each]
    if len(listed) != width or not all(isinstance(name, str) for name in listed):
        return ()
    return tuple(listed)


def tasks(meta: Meta, files: Files) -> dict[int, str]:
    """Return the instructions by task index. Raises SourceError if their table is missing or garbled."""
    name = "meta/tasks.jsonl" if meta.version == 2 else "meta/tasks.parquet"
    try:
        if meta.version == 2:
            return dict(_tasks_v2(files.bytes(name)))
        with files.open(name) as file:
            table = pq.read_table(file)
        # pandas writes the text as its index, whose name varies; other columns are not needed.
        text_columns = [column for column in table.column_names if column != "task_index"]
        text = next((column for column in ("task", "__index_level_0__") if column in text_columns), text_columns[0])
        texts = [as_text(value) for value in table[text]]
        return {n: value for n, value in zip(table["task_index"].to_pylist(), texts, strict=True) if value is not None}
    except MISSING:
        raise SourceError(f"{files.uri} has no {name}, which contains its instructions") from None
    except (*BAD_PARQUET, DamagedError, KeyError, TypeError, IndexError) as error:
        raise SourceError(f"{files.uri}: {name} cannot be read: {error}") from None


def _tasks_v2(content: bytes) -> Iterator[tuple[int, str]]:
    """Yield the tasks whose lines can be parsed; an episode with another task is damaged."""
    for line in content.split(b"\n"):
        try:
            row = parse_json(line)
            yield int(row["task_index"]), str(row["task"])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue


def as_text(value: Any) -> str | None:
    """Return the text of an Arrow scalar, which need not be UTF-8; None if it has another type."""
    kind = value.type
    if pa.types.is_dictionary(kind):
        return None if value.value is None else as_text(value.value)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or not value.is_valid:
        return None
    return bytes(value.as_buffer()).decode("utf-8", "surrogateescape")


def episodes(meta: Meta, files: Files, camera: str) -> list[MetadataEntry | Damaged]:
    """Return all episodes of the index; invalid, duplicate and missing entries become `Damaged`."""
    entries: list[MetadataEntry | Damaged] = []
    listed_numbers: set[int] = set()
    rows = _rows_v2(files) if meta.version == 2 else _rows_v3(meta, files, camera)
    for name, row in rows:
        if isinstance(row, Damaged):
            entries.append(row)
            continue
        try:
            entry = _entry(meta, row, camera)
            if entry.number in listed_numbers:
                raise DamagedError(f"episode {entry.number} is listed twice")
            listed_numbers.add(entry.number)
            entries.append(entry)
        except DamagedError as error:
            entries.append(Damaged(name, str(error)))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            entries.append(Damaged(name, f"it does not describe an episode ({type(error).__name__}: {error})"))
    lost = 0 if meta.total is None else meta.total - sum(number < meta.total for number in listed_numbers)
    if lost:
        # Computed lazily, because the declared number of episodes can be arbitrarily large.
        missing = islice((number for number in range(meta.total or 0) if number not in listed_numbers), 6)
        examples = [str(number) for number in missing]
        text = ", ".join(examples[:5]) + (", …" if len(examples) > 5 else "")
        reason = f"{lost} of the {meta.total} episodes in {INFO} are not listed: {text}"
        entries.append(Damaged("meta", reason, lost))
    return entries


def _rows_v2(files: Files) -> Iterator[tuple[str, dict[str, Json] | Damaged]]:
    name = "meta/episodes.jsonl"
    try:
        content = files.bytes(name)
    except MISSING:
        raise SourceError(f"{files.uri} has no {name}, where its episodes are listed") from None
    except (DamagedError, OSError) as error:
        raise SourceError(f"{files.uri}: {name} cannot be read: {error}") from None
    for number, line in enumerate(content.split(b"\n"), 1):
        line_name = f"{name}:{number}"
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError as error:
                row = Damaged(line_name, f"the line is not JSON: {error}")
            yield line_name, row


def _rows_v3(meta: Meta, files: Files, camera: str) -> Iterator[tuple[str, dict[str, Json] | Damaged]]:
    found = 0
    for number in range(1_000_000):
        name = V3_EPISODES.format(chunk_index=number // meta.chunk, file_index=number % meta.chunk)
        try:
            with files.open(name) as file:
                rows = list(_episode_rows(pq.ParquetFile(file), camera))
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


def _episode_rows(source: pq.ParquetFile, camera: str) -> Iterator[dict[str, Json]]:
    """Yield the rows of a list of episodes, without unreadable columns that are not needed."""
    if source.metadata.num_rows > STEPS:
        raise ValueError(f"it lists {source.metadata.num_rows} episodes, more than {STEPS}")
    table: dict[str, list[Json]] = {}
    for name in source.schema_arrow.names:
        # Statistics and checksums are most of the table and are not needed.
        if name.startswith(("stats/", "meta/")) or name.endswith("/crc32"):
            continue
        needed = name.startswith(("data/", f"videos/{camera}/")) or name in ("episode_index", "length")
        try:
            column = source.read(columns=[name], use_threads=False).column(name)
        except (*BAD_PARQUET, KeyError) as error:
            if needed or unreachable(error):
                raise
            continue
        try:
            table[name] = column.to_pylist()
        except (ValueError, OverflowError, pa.ArrowException):
            table[name] = [_plain(value) for value in column]
    columns = list(table.items())
    for row in range(len(table.get("episode_index", ()))):
        yield {name: values[row] for name, values in columns}


def _plain(value: Any) -> Json:
    """Convert an Arrow scalar to a Python value; None if it cannot be converted."""
    if pa.types.is_list(value.type) or pa.types.is_large_list(value.type):
        return [_plain(item) for item in value.values] if value.is_valid else None
    text = as_text(value)
    try:
        return value.as_py() if text is None else text
    except (ValueError, OverflowError, pa.ArrowException):
        return None


def _entry(meta: Meta, row: dict[str, Json], camera: str) -> MetadataEntry:
    number, length = int(row["episode_index"]), int(row["length"])
    if not (0 <= number <= LARGEST and 0 <= length <= STEPS):
        raise DamagedError(f"it lists episode {_few_digits(number)} with {_few_digits(length)} frames")
    scalars = {
        key: value for key, value in row.items() if "/" not in key and isinstance(value, str | bool | int | float)
    }
    attributes = {key: _as_text(value) for key, value in scalars.items()}
    task_texts = row.get("tasks")
    if isinstance(task_texts, list) and all(isinstance(word, str) for word in task_texts):
        attributes["tasks"] = "; ".join(task_texts)
    video = meta.kind(camera) == "video"
    if meta.version == 2:
        chunk = number // meta.chunk
        values: dict[str, int | str] = {"episode_chunk": chunk, "episode_index": number, "video_key": camera}
        path = _path(meta.video, values) if video else ""
        return MetadataEntry(number, length, _path(meta.data, values), path, 0.0, True, attributes)
    data = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
    path, start = "", 0.0
    if video:
        if row.get(f"videos/{camera}/file_index") is None:
            raise DamagedError(f"it has no video of the camera '{camera}'")
        video_indices = {key: int(row[f"videos/{camera}/{key}"]) for key in ("chunk_index", "file_index")}
        path = _path(meta.video, {"video_key": camera, **video_indices})
        start = float(row[f"videos/{camera}/from_timestamp"])
        if not 0 <= start * meta.fps <= LARGEST:
            raise DamagedError(f"its video begins at {start:g} s")
        declared_stop = row.get(f"videos/{camera}/to_timestamp")
        # Not needed, but if it contradicts the length, the start may be wrong too.
        stop = (
            float(declared_stop)
            if declared_stop is not None and math.isfinite(float(declared_stop))
            else start + length / meta.fps
        )
        if not abs(stop - start - length / meta.fps) < 0.5 / meta.fps:
            raise DamagedError(
                f"its video lasts from {start:g} to {stop:g} s, which is not {length} frames at {meta.fps:g} a second"
            )
    return MetadataEntry(number, length, _path(meta.data, data), path, start, False, attributes)


def _path(template: str, values: Mapping[str, int | str]) -> str:
    """Fill a path template with placeholders such as `{episode_index:06d}`. Raises DamagedError if the path is
    invalid."""

    def fill(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None or (isinstance(value, str) and match[2]):
            raise DamagedError(f"the template {template[:200]!r} in {INFO} has the unknown placeholder {match[0]}")
        return str(value).zfill(int(match[2] or 0))

    path = _PLACEHOLDER.sub(fill, template)
    if "{" in path or "}" in path:
        raise DamagedError(f"the template {template[:200]!r} in {INFO} is not a path template such as {V2_DATA}")
    try:
        return inside(path)
    except DamagedError as error:
        raise DamagedError(f"its data {error}") from None


def _few_digits(number: int) -> str:
    """Format a number that may have very many digits."""
    return str(number) if abs(number) <= 10**18 else "of more than 18 digits"


def _as_text(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
