"""Writing a store."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roboalign.store import layout
from roboalign.store.images import encode_png
from roboalign.store.layout import (
    ACTION,
    EPISODES,
    IMAGE,
    KEYPOINTS,
    STATE,
    StoreError,
    data_file,
    features_of,
    parquet_writer,
    vectors_of,
)
from roboalign.types import Episode


class EpisodeWriter:
    """Writes a store; a context manager. Nothing is visible at `folder` until the block ends without an error.

    All episodes must have frames of one size, actions of one width, and state and keypoints either all or none.
    An existing store at `folder` is replaced.
    """

    def __init__(self, folder: Path, *, fps: float) -> None:
        self.folder, self.fps = folder, fps
        self._temporary: Path | None = None
        self._writer: pq.ParquetWriter | None = None
        self._file = self._group = self._frames = 0
        self._features: dict[str, Any] = {}
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}."))
        return self

    def add(self, episode: Episode) -> None:
        """Append one episode. Raises StoreError where it does not fit the episodes before it."""
        if self._temporary is None:
            raise StoreError(f"{self.folder}: open the writer with `with` before adding episodes")
        features = features_of(episode)
        if self._features and features != self._features:
            different = [
                name for name in {**features, **self._features} if features.get(name) != self._features.get(name)
            ]
            raise StoreError(
                f"{self.folder}: episode {episode.id} differs from the first one in {', '.join(different)}; "
                "episodes of one store share the image size, the action width, and which columns they have"
            )
        self._features = features
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        table = self._table(episode, task)
        if self._writer is None:
            path = data_file(self._temporary, self._file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet_writer(path, table.schema)
        self._writer.write_table(table, row_group_size=table.num_rows)
        length = len(episode.frames)
        self._rows.append(
            {
                "episode_index": len(self._rows),
                "tasks": [episode.instruction],
                "length": length,
                "data/chunk_index": 0,
                "data/file_index": self._file,
                "data/row_group": self._group,
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + length,
                "id": episode.id,
                "source": episode.source,
                "task": episode.task,
                "policy": episode.policy,
                "scene": episode.scene,
                "split": episode.split,
                "success": episode.success,
            }
        )
        self._frames += length
        self._group += 1
        if data_file(self._temporary, self._file).stat().st_size > layout.FILE_BYTES:
            self._writer.close()
            self._writer, self._file, self._group = None, self._file + 1, 0

    def _table(self, episode: Episode, task: int) -> pa.Table:
        length = len(episode.frames)
        steps = np.arange(length)
        images = [{"bytes": encode_png(frame), "path": None} for frame in episode.frames]
        columns: dict[str, pa.Array] = {
            IMAGE: pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            ACTION: vectors_of(episode.actions),
        }
        if episode.state is not None:
            columns[STATE] = vectors_of(episode.state)
        if episode.keypoints is not None:
            columns[KEYPOINTS] = vectors_of(episode.keypoints)
        return pa.table(
            columns
            | {
                "timestamp": pa.array((steps / self.fps).astype(np.float32)),
                "frame_index": pa.array(steps),
                "episode_index": pa.array(np.full(length, len(self._rows))),
                "index": pa.array(self._frames + steps),
                "task_index": pa.array(np.full(length, task)),
            }
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._temporary is not None
        try:
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                self._finish(self._temporary)
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _finish(self, temporary: Path) -> None:
        if not self._rows:
            raise StoreError(f"{self.folder}: no episode was added; a store holds at least one")
        info = {
            "codebase_version": "v3.0",
            "robot_type": self._rows[0]["source"],
            "total_episodes": len(self._rows),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": 1000,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": None,
            "features": self._features,
        }
        meta = temporary / "meta"
        (meta / "episodes/chunk-000").mkdir(parents=True)
        (meta / "info.json").write_text(json.dumps(info, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        tasks = pa.table({"task_index": pa.array(self._tasks.values(), pa.int64()), "task": pa.array(self._tasks)})
        for path, table in (
            (meta / "tasks.parquet", tasks),
            (meta / "episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(self._rows, schema=EPISODES)),
        ):
            with parquet_writer(path, table.schema) as writer:
                writer.write_table(table)
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        temporary.chmod(0o755)
        if self.folder.exists():
            with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=f".{self.folder.name}.old.") as old:
                self.folder.rename(Path(old) / "store")
                temporary.rename(self.folder)
        else:
            temporary.rename(self.folder)
