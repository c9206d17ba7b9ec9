"""Writing a store."""

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
    image_tiles,
    images_kind,
    parquet_writer,
    plain,
    rate_of,
    vectors_by_feature,
    vectors_of,
    video_file,
)
from roboalign.store.reader import EpisodeStore
from roboalign.store.spec import StorageSpec, Tile
from roboalign.store.statistics import Aggregate, Statistics, of_frames, of_values
from roboalign.store.video import FramePlace, Packets, VideoFile, encode_clip
from roboalign.types import Episode, Split

ROWS = 1000
"""Episodes whose rows are held in memory before they are written."""


class EpisodeWriter:
    """Writes a store; a context manager. Nothing is visible at `folder` until the block ends without an error.

    Args:
        folder: Where the store goes.
        fps: Frames a second.
        storage: How frames are kept.
        cameras: For frames that show several cameras, each to be kept by itself: the cell of each image feature.

    All episodes must have frames of one size, actions and proprioception of one width, and each kind of vector either
    all or none.
    An existing store at `folder` is replaced. What is held in memory does not grow with the number of episodes.
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
            raise StoreError(f"{folder}: a store has more than {fps} frames a second")
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
        """Append one episode. Raises StoreError if it does not fit the episodes before it."""
        self._agree(features_of(episode, self.storage, self.fps, self.cameras), f"episode {episode.id}")
        length = len(episode.frames)
        vectors = {name: array for name, array in vectors_by_feature(episode).items() if array is not None}
        tiles = image_tiles(self._features)
        images = images_kind(self.storage, tiles)
        columns: dict[str, pa.Array] = {}
        places: dict[str, FramePlace] = {}
        statistics: dict[str, Statistics] = {}
        for name, tile in tiles.items():
            frames = np.ascontiguousarray(episode.frames[:, *tile.area])
            statistics[name] = of_frames(frames)
            if images == "png":
                pictures = [{"bytes": encode_png(frame), "path": None} for frame in frames]
                columns[name] = pa.array(pictures, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
            else:
                clip = encode_clip(frames, rate_of(self.fps), images, self.storage)
                with Packets(clip, rate_of(self.fps), 0, length) as packets:
                    places[name] = self._append_video(name, packets)
        columns |= {name: vectors_of(array) for name, array in vectors.items()}
        statistics |= {name: of_values(array) for name, array in vectors.items()}
        info = EpisodeInfo(
            episode.id, episode.source, episode.task, episode.instruction, episode.policy, episode.scene,
            episode.split, length, episode.success,
        )  # fmt: skip
        self._append(info, columns, statistics, places)

    def append(self, store: EpisodeStore, index: int, *, split: Split | None = None) -> None:
        """Copy one episode of another store, its frames as they are kept there, under `split` if that is given.

        The other store must have this one's frame rate, features and way to keep frames; raises StoreError otherwise.
        """
        if store.fps != self.fps:
            raise StoreError(f"{store.folder} has {store.fps} frames a second, {self.folder} {self.fps}")
        self._agree(dict(store.features), str(store.folder))
        info = store.infos[index]
        images = image_tiles(self._features)
        places: dict[str, FramePlace] = {}
        for name in images if store.video else ():
            file, lies = store.video_place(index, name)
            with Packets(file, rate_of(self.fps), lies.start, info.length, lies.checksums) as packets:
                places[name] = self._append_video(name, packets)
        there = data_schema(self._features).names
        names = [name for name in (*images, *VECTORS) if name in there]
        table = store.columns(index, names)
        columns = {name: table.column(name).combine_chunks() for name in names}
        kept = {*images, *names}
        statistics = {name: values for name, values in store.statistics(index).items() if name in kept}
        self._append(replace(info, split=split or info.split), columns, statistics, places)

    def _agree(self, features: dict[str, Any], name: str) -> None:
        if self._temporary is None:
            raise StoreError(f"{self.folder}: open the writer with `with` before adding episodes")
        if self._features and features != self._features:
            both = {**features, **self._features}
            different = [key for key in both if features.get(key) != self._features.get(key)]
            raise StoreError(
                f"{self.folder}: {name} differs from the first episode in {', '.join(different)}; episodes of one "
                "store share the image size, how images are kept, the action width, and which columns they have"
            )
        self._features = features

    def _append_video(self, name: str, packets: Packets) -> FramePlace:
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
        place = self._videos[name].append(packets)
        if len(place.checksums) != packets.length:
            raise StoreError(f"{self.folder}: {packets.length} frames became {len(place.checksums)} of video")
        return place

    def _append(
        self,
        info: EpisodeInfo,
        columns: dict[str, pa.Array],
        statistics: dict[str, Statistics],
        places: Mapping[str, FramePlace],
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
        statistics = statistics | {name: of_values(values) for name, values in scalars.items()}
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
        for name, place in places.items():
            row |= {
                f"videos/{name}/chunk_index": place.file // CHUNK_FILES,
                f"videos/{name}/file_index": place.file % CHUNK_FILES,
                f"videos/{name}/from_timestamp": place.start / self.fps,
                f"videos/{name}/to_timestamp": (place.start + length) / self.fps,
                f"videos/{name}/crc32": place.checksums,
            }
        row |= {f"stats/{name}/{key}": value for name, found in statistics.items() for key, value in found.items()}
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
            raise StoreError(f"{self.folder}: no episode was added; a store holds at least one")
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
            "fps": plain(self.fps),
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
