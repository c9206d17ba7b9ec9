"""The episode store: recorded episodes as few large Parquet files, laid out after LeRobotDataset v3.

```
meta/info.json                            features, counts, frames per second
meta/tasks.parquet                        the instructions
meta/episodes/chunk-000/file-000.parquet  one row an episode: its place, length, policy, scene, split, success
data/chunk-000/file-000.parquet           one row a frame, one row group an episode; images as PNG
```

`EpisodeWriter` writes a store, `EpisodeStore` reads one, and `Corpus` presents several as one list of episodes with
actions on a common scale. The same episodes give the same bytes.
"""

import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from roboalign.io import read_json
from roboalign.types import KEYPOINT_NAMES, STATE_NAMES, Episode, Float32, Policy, Split, UInt8

IMAGE, ACTION, STATE, KEYPOINTS = (
    "observation.images.main",
    "action",
    "observation.state",
    "observation.keypoints",
)
FILE_BYTES = 100 * 2**20
"""A data file is closed once it holds this much."""
PNG_LEVEL = 6
"""zlib level of the images."""


class StoreError(ValueError):
    """A store or an index cannot be read or written; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class EpisodeInfo:
    """What is known of an episode without reading its frames. `length` counts frames; see `Episode` for the rest."""

    id: str
    source: str
    task: str
    instruction: str
    policy: Policy
    scene: str
    split: Split
    length: int
    success: bool | None


@dataclass(frozen=True, slots=True)
class ActionRange:
    """The range of each action dimension of a source, in its own units: robust quantiles over its train split."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def over(cls, actions: Sequence[Float32], quantile: float = 0.01) -> Self:
        """The `quantile` and `1 - quantile` of actions, each (T, A)."""
        low, high = np.quantile(np.concatenate(actions), [quantile, 1 - quantile], axis=0)
        return cls(tuple(map(float, low)), tuple(map(float, high)))

    def normalise(self, actions: Float32) -> Float32:
        """(T, A) in the source's units → [-1, 1], clipped; a dimension that never varies becomes 0."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        span = high - low
        moving = span > 1e-6
        scaled = 2 * (actions - low) / np.where(moving, span, 1) - 1
        return np.where(moving, np.clip(scaled, -1, 1), 0).astype(np.float32)


def encode_png(frame: UInt8) -> bytes:
    """An (H, W, 3) image as PNG, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def decode_png(data: bytes) -> UInt8:
    """A PNG as (H, W, 3)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB") if image.mode != "RGB" else image)


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
        features = _features(episode)
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
            path = _data_file(self._temporary, self._file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _parquet_writer(path, table.schema)
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
        if _data_file(self._temporary, self._file).stat().st_size > FILE_BYTES:
            self._writer.close()
            self._writer, self._file, self._group = None, self._file + 1, 0

    def _table(self, episode: Episode, task: int) -> pa.Table:
        length = len(episode.frames)
        steps = np.arange(length)
        images = [{"bytes": encode_png(frame), "path": None} for frame in episode.frames]
        columns: dict[str, pa.Array] = {
            IMAGE: pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            ACTION: _vectors(episode.actions),
        }
        if episode.state is not None:
            columns[STATE] = _vectors(episode.state)
        if episode.keypoints is not None:
            columns[KEYPOINTS] = _vectors(episode.keypoints)
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
            (meta / "episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(self._rows, schema=_EPISODES)),
        ):
            with _parquet_writer(path, table.schema) as writer:
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


_EPISODES = pa.schema(
    {
        "episode_index": pa.int64(),
        "tasks": pa.list_(pa.string()),
        "length": pa.int64(),
        "data/chunk_index": pa.int64(),
        "data/file_index": pa.int64(),
        "data/row_group": pa.int64(),
        "dataset_from_index": pa.int64(),
        "dataset_to_index": pa.int64(),
        "id": pa.string(),
        "source": pa.string(),
        "task": pa.string(),
        "policy": pa.string(),
        "scene": pa.string(),
        "split": pa.string(),
        "success": pa.bool_(),
    }
)


def _parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # PNG does not compress further, and statistics would store whole images as the bounds of a column.
    return pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False)


def _vectors(values: Float32) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _data_file(folder: Path, number: int) -> Path:
    return folder / f"data/chunk-000/file-{number:03d}.parquet"


def _features(episode: Episode) -> dict[str, Any]:
    """The `features` of info.json. Raises StoreError where the arrays of the episode do not fit each other."""
    length, height, width, channels = episode.frames.shape
    arrays = {ACTION: episode.actions, STATE: episode.state, KEYPOINTS: episode.keypoints}
    for name, array in arrays.items():
        if array is not None and (array.ndim != 2 or len(array) != length or not np.isfinite(array).all()):
            raise StoreError(
                f"episode {episode.id}: {name} has shape {array.shape} or values that are not finite; "
                f"it needs one finite row for each of the {length} frames"
            )
    names = {
        ACTION: [f"action_{i}" for i in range(episode.actions.shape[1])],
        STATE: STATE_NAMES,
        KEYPOINTS: KEYPOINT_NAMES,
    }
    vectors = {
        name: {"dtype": "float32", "shape": [array.shape[1]], "names": list(names[name])}
        for name, array in arrays.items()
        if array is not None
    }
    scalars = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
    image = {"dtype": "image", "shape": [height, width, channels], "names": ["height", "width", "channels"]}
    return {IMAGE: image} | vectors | {k: {"dtype": v, "shape": [1], "names": None} for k, v in scalars.items()}


class EpisodeStore:
    """Reads a store. Opening reads only `meta/`; each episode is one row group, so random access by episode is fast."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            info = read_json(folder / "meta/info.json")
            rows = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{folder} is not a readable episode store ({error}); record it again: `dvc repro`"
            ) from None
        self.fps = float(info["fps"])
        self.features: Mapping[str, Any] = info["features"]
        self.infos = tuple(
            EpisodeInfo(
                row["id"], row["source"], row["task"], row["tasks"][0], row["policy"], row["scene"], row["split"],
                row["length"], row["success"],
            )
            for row in rows
        )  # fmt: skip
        self._places = tuple((row["data/file_index"], row["data/row_group"]) for row in rows)
        self._files: dict[int, pq.ParquetFile] = {}

    def __len__(self) -> int:
        return len(self.infos)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    @property
    def action_width(self) -> int:
        """Action dimensions."""
        return int(self.features[ACTION]["shape"][0])

    def _columns(self, index: int, names: list[str]) -> pa.Table:
        file, group = self._places[index]
        path = _data_file(self.folder, file)
        try:
            if file not in self._files:
                self._files[file] = pq.ParquetFile(path, memory_map=True)
            return self._files[file].read_row_group(group, columns=names, use_threads=False)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read ({error}); `dvc checkout` or `dvc repro` restores it") from None

    def _vectors(self, table: pa.Table, name: str) -> Float32:
        chunk = table.column(name).combine_chunks()
        return np.asarray(chunk.flatten(), np.float32).reshape(len(chunk), -1).copy()

    def actions(self, index: int) -> Float32:
        """(T, A) actions of an episode, in the source's own units."""
        return self._vectors(self._columns(index, [ACTION]), ACTION)

    def frames(self, index: int, start: int = 0, stop: int | None = None) -> UInt8:
        """(stop - start, H, W, 3) frames of an episode."""
        images = self._columns(index, [f"{IMAGE}.bytes"]).column(IMAGE).combine_chunks().field("bytes")[start:stop]
        return np.stack([decode_png(image.as_buffer()) for image in images])

    def read(self, index: int) -> Episode:
        """The whole episode."""
        info = self.infos[index]
        names = [name for name in (ACTION, STATE, KEYPOINTS) if name in self.features]
        table = self._columns(index, names)
        vectors = {name: self._vectors(table, name) for name in names}
        return Episode(
            id=info.id,
            source=info.source,
            task=info.task,
            instruction=info.instruction,
            policy=info.policy,
            scene=info.scene,
            split=info.split,
            frames=self.frames(index),
            actions=vectors[ACTION],
            state=vectors.get(STATE),
            keypoints=vectors.get(KEYPOINTS),
        )


class _Memory:
    """Episodes in memory, read like a store."""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self._episodes = tuple(episodes)
        self.infos = tuple(
            EpisodeInfo(e.id, e.source, e.task, e.instruction, e.policy, e.scene, e.split, len(e.frames), e.success)
            for e in episodes
        )

    def read(self, index: int) -> Episode:
        return self._episodes[index]

    def frames(self, index: int, start: int = 0, stop: int | None = None) -> UInt8:
        return self._episodes[index].frames[start:stop]

    def actions(self, index: int) -> Float32:
        return self._episodes[index].actions


@dataclass(frozen=True)
class Corpus:
    """Several sources as one list of episodes, with actions on one scale and of one width."""

    stores: tuple[EpisodeStore | _Memory, ...]
    places: tuple[tuple[int, int], ...]
    """For each episode, its store and its index there."""
    ranges: Mapping[str, ActionRange]
    """The action range of each source, also of those that `where` left out: the width is that of the whole index."""

    @classmethod
    def open(cls, index: Path) -> Self:
        """Open the sources that an index lists (`artifacts/sources/index.json`); their folders are relative to the
        folder that holds the index's folder. Raises StoreError where a store is missing or not the indexed one."""
        try:
            listed = read_json(index)["sources"]
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{index} is not a readable index of sources ({error}); run `dvc repro sources`") from None
        stores, ranges = [], {}
        for name, entry in listed.items():
            store = EpisodeStore(index.parent.parent / entry["folder"])
            if (len(store), sum(i.length for i in store.infos)) != (entry["episodes"], entry["frames"]):
                raise StoreError(f"{store.folder} is not the store that {index} lists; run `dvc repro sources`")
            stores.append(store)
            ranges[name] = ActionRange(tuple(entry["action_low"]), tuple(entry["action_high"]))
        places = tuple((s, e) for s, store in enumerate(stores) for e in range(len(store)))
        return cls(tuple(stores), places, ranges)

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Self:
        """A corpus of episodes in memory; action ranges come from the train split of each source (if any)."""
        ranges = {}
        for name in dict.fromkeys(e.source for e in episodes):
            own = [e for e in episodes if e.source == name]
            ranges[name] = ActionRange.over([e.actions for e in own if e.split == "train"] or [e.actions for e in own])
        return cls((_Memory(episodes),), tuple((0, i) for i in range(len(episodes))), ranges)

    @cached_property
    def infos(self) -> tuple[EpisodeInfo, ...]:
        """What is known of each episode without reading frames."""
        return tuple(self.stores[store].infos[index] for store, index in self.places)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that have an episode here, in the order of the index."""
        present = {info.source for info in self.infos}
        return tuple(name for name in self.ranges if name in present)

    @property
    def action_width(self) -> int:
        """Action dimensions of the widest source of the index."""
        return max(len(r.low) for r in self.ranges.values())

    def __len__(self) -> int:
        return len(self.places)

    def read(self, i: int) -> Episode:
        """The whole episode `i`, its actions in the source's own units."""
        store, index = self.places[i]
        return self.stores[store].read(index)

    def frames(self, i: int, start: int = 0, stop: int | None = None) -> UInt8:
        """(stop - start, H, W, 3) frames of episode `i`."""
        store, index = self.places[i]
        return self.stores[store].frames(index, start, stop)

    def actions(self, i: int) -> Float32:
        """(T, action_width): actions in [-1, 1] by the source's range, clipped; dimensions that it lacks are 0."""
        store, index = self.places[i]
        source = self.stores[store].infos[index].source
        values = self.ranges[source].normalise(self.stores[store].actions(index))
        return np.pad(values, ((0, 0), (0, self.action_width - values.shape[1])))

    def action_mask(self, i: int) -> NDArray[np.bool_]:
        """(action_width,): which action dimensions the source of episode `i` has."""
        store, index = self.places[i]
        return np.arange(self.action_width) < len(self.ranges[self.stores[store].infos[index].source].low)

    def where(self, *, split: Split | None = None, source: str | None = None, policy: Policy | None = None) -> Self:
        """The episodes that match everything given, in the same order."""
        chosen = tuple(
            place
            for place, info in zip(self.places, self.infos, strict=True)
            if split in (None, info.split) and source in (None, info.source) and policy in (None, info.policy)
        )
        return type(self)(self.stores, chosen, self.ranges)
