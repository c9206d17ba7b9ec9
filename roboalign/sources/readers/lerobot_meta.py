"""What a LeRobotDataset says of itself under `meta/`: its features, tasks, and where each episode lies."""

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
"""Numbers of episodes, chunks and files at most."""
_VERSION = {"v2.0": 2, "v2.1": 2, "v3.0": 3}
_PLACEHOLDER = re.compile(r"\{(\w+)(?::0?([0-9]{1,2})d)?\}")
"""What a template of paths may hold: a name, and the digits that it is filled up to."""
BAD_PARQUET = (pa.ArrowException, OSError, ValueError, EOFError)
"""What pyarrow raises on damaged files."""


@dataclass(frozen=True, slots=True)
class MetadataEntry:
    """An episode by the index: where it lies, and what is known of it."""

    number: int
    length: int
    data: str
    """The Parquet file with its rows."""
    video: str = ""
    """The camera's video; empty if pictures are in the Parquet file."""
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
    codebase: str
    """The version as LeRobot writes it: v2.1."""
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
    """Parse `meta/info.json`. Raises SourceError if it is missing, garbled, or of a version that cannot be read."""
    try:
        info = parse_json(files.bytes(INFO))
    except MISSING:
        raise SourceError(f"{files.uri} has no {INFO}; `uri` is the folder that holds `meta/`") from None
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
        # A feature that is described wrongly only counts if the spec names it.
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
    """The names of a feature's dimensions; () if `names`, a list or a mapping of lists, does not give one for each."""
    lists = list(names.values()) if isinstance(names, dict) else [names]
    if not all(isinstance(each, list) for each in lists):
        return ()
    listed = [name for each in lists for name in each]
    if len(listed) != width or not all(isinstance(name, str) for name in listed):
        return ()
    return tuple(listed)


def tasks(meta: Meta, files: Files) -> dict[int, str]:
    """The instructions by their number. Raises SourceError if their table is missing or garbled."""
    name = "meta/tasks.jsonl" if meta.version == 2 else "meta/tasks.parquet"
    try:
        if meta.version == 2:
            return dict(_tasks_v2(files.bytes(name)))
        with files.open(name) as file:
            table = pq.read_table(file)
        # pandas wrote the text as its index, which has this or that name; other columns are not needed.
        others = [column for column in table.column_names if column != "task_index"]
        text = next((column for column in ("task", "__index_level_0__") if column in others), others[0])
        texts = [as_text(value) for value in table[text]]
        return {n: value for n, value in zip(table["task_index"].to_pylist(), texts, strict=True) if value is not None}
    except MISSING:
        raise SourceError(f"{files.uri} has no {name}, where its instructions are") from None
    except (*BAD_PARQUET, DamagedError, KeyError, TypeError, IndexError) as error:
        raise SourceError(f"{files.uri}: {name} cannot be read: {error}") from None


def _tasks_v2(content: bytes) -> Iterator[tuple[int, str]]:
    """The tasks whose lines can be read; an episode of another one is damaged alone."""
    for line in content.split(b"\n"):
        try:
            row = parse_json(line)
            yield int(row["task_index"]), str(row["task"])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue


def as_text(value: Any) -> str | None:
    """An Arrow scalar's text, which need not be UTF-8; None if it holds something else."""
    kind = value.type
    if pa.types.is_dictionary(kind):
        return None if value.value is None else as_text(value.value)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or not value.is_valid:
        return None
    return bytes(value.as_buffer()).decode("utf-8", "surrogateescape")


def episodes(meta: Meta, files: Files, camera: str) -> list[MetadataEntry | Damaged]:
    """All episodes by the index; what is listed wrongly, twice, or not at all comes as `Damaged`."""
    found: list[MetadataEntry | Damaged] = []
    seen: set[int] = set()
    rows = _rows_v2(files) if meta.version == 2 else _rows_v3(meta, files, camera)
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
    lost = 0 if meta.total is None else meta.total - sum(number < meta.total for number in seen)
    if lost:
        # One by one, for the number of episodes is only what the file says.
        missing = islice((number for number in range(meta.total or 0) if number not in seen), 6)
        listed = [str(number) for number in missing]
        text = ", ".join(listed[:5]) + (", …" if len(listed) > 5 else "")
        reason = f"{lost} of the {meta.total} episodes in {INFO} are not listed: {text}"
        found.append(Damaged("meta", reason, lost))
    return found


def _rows_v2(files: Files) -> Iterator[tuple[str, dict[str, Json] | Damaged]]:
    name = "meta/episodes.jsonl"
    try:
        content = files.bytes(name)
    except MISSING:
        raise SourceError(f"{files.uri} has no {name}, where its episodes are listed") from None
    except (DamagedError, OSError) as error:
        raise SourceError(f"{files.uri}: {name} cannot be read: {error}") from None
    for number, line in enumerate(content.split(b"\n"), 1):
        place = f"{name}:{number}"
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError as error:
                row = Damaged(place, f"the line is not JSON: {error}")
            yield place, row


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
    """The rows of a list of episodes. What cannot be read of a column that reading does not need is left out."""
    if source.metadata.num_rows > STEPS:
        raise ValueError(f"it lists {source.metadata.num_rows} episodes, more than {STEPS}")
    table: dict[str, list[Json]] = {}
    for name in source.schema_arrow.names:
        # Statistics and checksums are most of the table, and nothing is read of them.
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
    """An Arrow scalar as Python has it; None if it cannot be."""
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
    known = {key: value for key, value in row.items() if "/" not in key and isinstance(value, str | bool | int | float)}
    attributes = {key: _as_text(value) for key, value in known.items()}
    words = row.get("tasks")
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        attributes["tasks"] = "; ".join(words)
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
        place = {key: int(row[f"videos/{camera}/{key}"]) for key in ("chunk_index", "file_index")}
        path = _path(meta.video, {"video_key": camera, **place})
        start = float(row[f"videos/{camera}/from_timestamp"])
        if not 0 <= start * meta.fps <= LARGEST:
            raise DamagedError(f"its video begins at {start:g} s")
        told = row.get(f"videos/{camera}/to_timestamp")
        # Not needed; but if it contradicts the length, the beginning may be wrong.
        stop = float(told) if told is not None and math.isfinite(float(told)) else start + length / meta.fps
        if not abs(stop - start - length / meta.fps) < 0.5 / meta.fps:
            raise DamagedError(
                f"its video lasts from {start:g} to {stop:g} s, which is not {length} frames at {meta.fps:g} a second"
            )
    return MetadataEntry(number, length, _path(meta.data, data), path, start, False, attributes)


def _path(template: str, values: Mapping[str, int | str]) -> str:
    """The path of a file by a template with placeholders such as `{episode_index:06d}`. Raises DamagedError."""

    def fill(found: re.Match[str]) -> str:
        value = values.get(found[1])
        if value is None or (isinstance(value, str) and found[2]):
            raise DamagedError(f"the template {template[:200]!r} in {INFO} asks for {found[0]}, which is not known")
        return str(value).zfill(int(found[2] or 0))

    path = _PLACEHOLDER.sub(fill, template)
    if "{" in path or "}" in path:
        raise DamagedError(f"the template {template[:200]!r} in {INFO} is none of paths, such as {V2_DATA}")
    try:
        return inside(path)
    except DamagedError as error:
        raise DamagedError(f"its data {error}") from None


def _few_digits(number: int) -> str:
    """A number that may be too long to be written out."""
    return str(number) if abs(number) <= 10**18 else "of more than 18 digits"


def _as_text(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
