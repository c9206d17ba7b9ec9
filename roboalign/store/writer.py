"""Writes a store."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roboalign.store import layout
from roboalign.store.images import encode_png
from roboalign.store.layout import (
    CHUNK_FILES,
    STEPS,
    VECTORS,
    EpisodeInfo,
    StoreError,
    data_file,
    data_schema,
    episode_schema,
    features_of,
    fps_to_json,
    image_format,
    image_tiles,
    parquet_writer,
    rate_of,
    vector_column,
    vectors_by_feature,
    video_file,
)
from roboalign.store.reader import EpisodeStore
from roboalign.store.spec import StorageSpec, Tile
from roboalign.store.statistics import Aggregate, Statistics, frame_statistics, value_statistics
from roboalign.store.video import Packets, VideoFile, VideoLocation, encode_clip
from roboalign.types import Episode, Split

ROWS = 1000
"""Number of episodes whose rows are buffered before they are written."""


class EpisodeWriter:
    """Writes a store; a context manager. Nothing is visible at `folder` until the block ends without an error.

    Args:
        folder: folder of the store; an existing store is replaced.
        fps: frames per second.
        storage: storage of the frames.
        cameras: the cell of each image feature, if frames show several cameras to be stored separately.

    All episodes must have the same frame size and the same vectors, of the same widths. Memory use does not grow with
    the number of episodes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fps: float,
        storage: StorageSpec | None = None,
        cameras: Mapping[str, Tile] | None = None,
    ) -> None:
        if fps <= 0:
            raise StoreError(f"{folder}: fps must be positive, not {fps}")
        self.folder, self.fps, self.storage, self.cameras = folder, fps, storage or StorageSpec(), cameras
        self._temporary: Path | None = None
        self._data: pq.ParquetWriter | None = None
        self._meta: pq.ParquetWriter | None = None
        self._videos: dict[str, VideoFile] = {}
        """The open video file of each image feature."""
        self._file = self._group = self._frames = self._episodes = 0
        self._features: dict[str, Any] = {}
        self._tasks: dict[str, int] = {}
        self._robot = ""
        self._rows: list[dict[str, Any]] = []
        self._statistics = Aggregate()

    def __enter__(self) -> Self:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}."))
        return self

    def add(self, episode: Episode) -> None:
        """Append an episode. Raises StoreError if it differs from earlier ones in frame size, action width or
        columns."""
        self._agree(features_of(episode, self.storage, self.fps, self.cameras), f"episode {episode.id}")
        length = len(episode.frames)
        vectors = {name: array for name, array in vectors_by_feature(episode).items() if array is not None}
        tiles = image_tiles(self._features)
        images = image_format(self.storage, tiles)
        columns: dict[str, pa.Array] = {}
        locations: dict[str, VideoLocation] = {}
        statistics: dict[str, Statistics] = {}
        for name, tile in tiles.items():
            frames = np.ascontiguousarray(episode.frames[:, *tile.area])
            statistics[name] = frame_statistics(frames)
            if images == "png":
                encoded = [{"bytes": encode_png(frame), "path": None} for frame in frames]
                columns[name] = pa.array(encoded, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
            else:
                clip = encode_clip(frames, rate_of(self.fps), images, self.storage)
                with Packets(clip, rate_of(self.fps), 0, length) as packets:
                    locations[name] = self._append_video(name, packets)
        columns |= {name: vector_column(array) for name, array in vectors.items()}
        statistics |= {name: value_statistics(array) for name, array in vectors.items()}
        info = EpisodeInfo(
            episode.id, episode.source, episode.task, episode.instruction, episode.policy, episode.scene,
            episode.split, length, episode.success,
        )  # fmt: skip
        self._append(info, columns, statistics, locations)

    def append(self, store: EpisodeStore, index: int, *, split: Split | None = None) -> None:
        """Copy an episode of another store without re-encoding its frames.

        Raises StoreError if the stores differ in frame rate, features, or storage of frames.

        Args:
            store: the other store.
            index: index of the episode in it.
            split: split of the copy; None to keep it.
        """
        if store.fps != self.fps:
            raise StoreError(f"{store.folder} has {store.fps} frames per second, but {self.folder} has {self.fps}")
        self._agree(dict(store.features), str(store.folder))
        info = store.infos[index]
        images = image_tiles(self._features)
        locations: dict[str, VideoLocation] = {}
        for name in images if store.video else ():
            file, location = store.video_location(index, name)
            with Packets(file, rate_of(self.fps), location.start, info.length, location.checksums) as packets:
                locations[name] = self._append_video(name, packets)
        schema_names = data_schema(self._features).names
        names = [name for name in (*images, *VECTORS) if name in schema_names]
        table = store.columns(index, names)
        columns = {name: table.column(name).combine_chunks() for name in names}
        copied = {*images, *names}
        statistics = {name: values for name, values in store.statistics(index).items() if name in copied}
        self._append(replace(info, split=split or info.split), columns, statistics, locations)

    def _agree(self, features: dict[str, Any], name: str) -> None:
        if self._temporary is None:
            raise StoreError(f"{self.folder}: open the writer with `with` before adding episodes")
        if self._features and features != self._features:
            all_features = {**features, **self._features}
            different = [key for key in all_features if features.get(key) != self._features.get(key)]
            raise StoreError(
                f"{self.folder}: {name} differs from the first episode in {', '.join(different)}; episodes of one "
                "store must share image size, image storage, action width and columns"
            )
        self._features = features

    def _append_video(self, name: str, packets: Packets) -> VideoLocation:
        assert self._temporary is not None
        file = self._videos.get(name)
        if file is not None and not (
            file.takes(packets)
            and file.size < layout.VIDEO_BYTES
            and file.frames + packets.length <= layout.VIDEO_SECONDS * self.fps
        ):
            file.close()
            del self._videos[name]
        if name not in self._videos:
            number = 0 if file is None else file.number + 1
            self._videos[name] = VideoFile(video_file(self._temporary, name, number), number, rate_of(self.fps))
        location = self._videos[name].append(packets)
        if len(location.checksums) != packets.length:
            raise StoreError(
                f"{self.folder}: {packets.length} frames were encoded to {len(location.checksums)} video packets"
            )
        return location

    def _append(
        self,
        info: EpisodeInfo,
        columns: dict[str, pa.Array],
        statistics: dict[str, Statistics],
        locations: Mapping[str, VideoLocation],
    ) -> None:
        assert self._temporary is not None
        length, number = info.length, self._episodes
        steps = np.arange(length)
        task = self._tasks.setdefault(info.instruction, len(self._tasks))
        numbers = (steps, np.full(length, number), self._frames + steps, np.full(length, task))
        scalars = {"timestamp": (steps / self.fps).astype(np.float32)} | dict(zip(STEPS, numbers, strict=True))
        columns = columns | {name: pa.array(values) for name, values in scalars.items()}
        if self._data is None:
            self._data = parquet_writer(data_file(self._temporary, self._file), data_schema(self._features))
        self._data.write_table(pa.table(columns, schema=data_schema(self._features)), row_group_size=length)
        statistics = statistics | {name: value_statistics(values) for name, values in scalars.items()}
        self._statistics.add(statistics)
        self._robot = self._robot or info.source
        row = {
            "episode_index": number,
            "tasks": [info.instruction],
            "length": length,
            "data/chunk_index": self._file // CHUNK_FILES,
            "data/file_index": self._file % CHUNK_FILES,
            "data/row_group": self._group,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + length,
            "id": info.id,
            "source": info.source,
            "task": info.task,
            "policy": info.policy,
            "scene": info.scene,
            "split": info.split,
            "success": info.success,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for name, location in locations.items():
            row |= {
                f"videos/{name}/chunk_index": location.file // CHUNK_FILES,
                f"videos/{name}/file_index": location.file % CHUNK_FILES,
                f"videos/{name}/from_timestamp": location.start / self.fps,
                f"videos/{name}/to_timestamp": (location.start + length) / self.fps,
                f"videos/{name}/crc32": location.checksums,
            }
        row |= {
            f"stats/{name}/{key}": value
            for name, feature_statistics in statistics.items()
            for key, value in feature_statistics.items()
        }
        self._rows.append(row)
        self._frames += length
        self._episodes += 1
        self._group += 1
        full = data_file(self._temporary, self._file).stat().st_size > layout.FILE_BYTES
        if full or self._group == layout.FILE_EPISODES:
            self._data.close()
            self._data, self._file, self._group = None, self._file + 1, 0
        if len(self._rows) == ROWS:
            self._write_rows()

    def _write_rows(self) -> None:
        assert self._temporary is not None
        schema = episode_schema(self._features)
        if self._meta is None:
            self._meta = parquet_writer(self._temporary / "meta/episodes/chunk-000/file-000.parquet", schema)
        self._meta.write_table(pa.Table.from_pylist(self._rows, schema=schema))
        self._rows.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._temporary is not None
        try:
            if kind is None:
                self._finish(self._temporary)
        finally:
            for file in (self._data, self._meta, *self._videos.values()):
                if file is not None:
                    file.close()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _finish(self, temporary: Path) -> None:
        if not self._episodes:
            raise StoreError(f"{self.folder}: no episode was added; a store needs at least one")
        self._write_rows()
        for file in (self._data, self._meta, *self._videos.values()):
            if file is not None:
                file.close()
        info = {
            "codebase_version": "v3.0",
            "robot_type": self._robot,
            "total_episodes": self._episodes,
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": layout.FILE_BYTES // layout.MEGABYTE or 1,
            "video_files_size_in_mb": layout.VIDEO_BYTES // layout.MEGABYTE or 1,
            "fps": fps_to_json(self.fps),
            "splits": {"train": f"0:{self._episodes}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if self._videos else None,
            "features": self._features,
        }
        for name, value in (("info", info), ("stats", self._statistics.result())):
            text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
            (temporary / f"meta/{name}.json").write_text(text + "\n", encoding="utf-8")
        with parquet_writer(temporary / "meta/tasks.parquet", _TASKS) as writer:
            writer.write_table(pa.table([list(self._tasks.values()), list(self._tasks)], schema=_TASKS))
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb") as written:
                    os.fsync(written.fileno())
        temporary.chmod(0o755)
        if self.folder.exists():
            with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=f".{self.folder.name}.old.") as old:
                self.folder.rename(Path(old) / "store")
                temporary.rename(self.folder)
        else:
            temporary.rename(self.folder)


# LeRobot reads the tasks with pandas, by their text as the index.
_TASKS = pa.schema(
    {"task_index": pa.int64(), "task": pa.string()},
    {
        "pandas": json.dumps(
            {
                "index_columns": ["task"],
                "column_indexes": [],
                "columns": [
                    {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": plain_type, "metadata": None}
                    for name, kind, plain_type in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
                ],
            }
        )
    },
)
