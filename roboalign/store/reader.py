"""Reads a store."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roboalign.io import read_json
from roboalign.store.images import PngReader
from roboalign.store.layout import (
    ACTION,
    CHUNK_FILES,
    IMAGE,
    KEYPOINTS,
    PROPRIOCEPTION,
    STATE,
    STATISTICS,
    VECTORS,
    EpisodeInfo,
    StoreError,
    data_file,
    frame_size,
    image_tiles,
    proprioception_of,
    rate_of,
    video_file,
)
from roboalign.store.spec import Tile
from roboalign.store.video import VideoLocation, VideoReader
from roboalign.types import Episode, Float32, UInt8

OPEN_FILES = 16
"""Largest number of data files and video files of a store that stay open."""
THREADS = 4
"""Largest number of decoding threads in a process that is not a worker."""
SHARE = 4
"""Smallest number of frames for an additional thread."""
_INFO = ("id", "source", "task", "tasks", "policy", "scene", "split", "length", "success")
_PLACE = ("data/chunk_index", "data/file_index", "data/row_group")
_VIDEO = ("chunk_index", "file_index", "from_timestamp", "crc32")
"""Columns of each video."""

K = TypeVar("K")
F = TypeVar("F", pq.ParquetFile, VideoReader)


class EpisodeStore:
    """Reads a store. Opening reads only `meta/`; each episode is one row group, so random access by episode is fast.

    Memory use does not grow with the number of episodes read. A store can be pickled, and used in forked processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frame_size: tuple[int, int]
        """Height and width of the frames."""
        self.tiles: dict[str, Tile]
        """The cell of the frame that each image feature fills; a single feature fills the whole frame."""
        try:
            info = read_json(folder / "meta/info.json")
            self.fps = float(info["fps"])
            self.features: Mapping[str, Any] = info["features"]
            self.frame_size = frame_size(self.features)
            self.tiles = image_tiles(self.features)
            videos = [name for name in self.tiles if self.features[name]["dtype"] == "video"]
            self.video = bool(videos)
            table = self._episodes([*_INFO, *_PLACE, *(f"videos/{name}/{key}" for name in videos for key in _VIDEO)])
            rows = table.drop_columns([f"videos/{name}/crc32" for name in videos]).to_pylist()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{folder} is not a readable episode store ({error}); record it again: `dvc repro`"
            ) from None
        self.infos = tuple(
            EpisodeInfo(
                row["id"], row["source"], row["task"], row["tasks"][0], row["policy"], row["scene"], row["split"],
                row["length"], row["success"],
            )
            for row in rows
        )  # fmt: skip
        self._rows = tuple(
            (row["data/chunk_index"] * CHUNK_FILES + row["data/file_index"], row["data/row_group"]) for row in rows
        )
        self._videos: dict[str, tuple[tuple[int, int], ...]] = {}
        self._checksums = {name: table.column(f"videos/{name}/crc32") for name in videos}
        for name in videos:
            chunk, file, start, _ = (f"videos/{name}/{key}" for key in _VIDEO)
            self._videos[name] = tuple(
                (row[chunk] * CHUNK_FILES + row[file], round(row[start] * self.fps)) for row in rows
            )
            self._gop = int(self.features[name]["info"]["video.g"])
        self._statistics: pa.Table | None = None
        self._opened = _Files()

    def __len__(self) -> int:
        return len(self.infos)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": _Files(), "_statistics": None}

    def close(self) -> None:
        """Close the open files; they are reopened on the next access."""
        self._files().close()

    def _files(self) -> "_Files":
        if self._opened.process != os.getpid():
            # Forked processes would share file offsets, and threads are not inherited.
            self._opened = _Files()
        return self._opened

    def _episodes(self, columns: list[str]) -> pa.Table:
        files = sorted((self.folder / "meta/episodes").glob("*/*.parquet"))
        if not files:
            raise FileNotFoundError(f"{self.folder / 'meta/episodes'} contains no file")
        return pa.concat_tables(pq.read_table(file, columns=columns, page_checksum_verification=True) for file in files)

    @property
    def action_width(self) -> int:
        """Number of action dimensions."""
        return int(self.features[ACTION]["shape"][0])

    def statistics(self, index: int) -> dict[str, dict[str, list[Any]]]:
        """Return the statistics of an episode: by feature, then by name."""
        if self._statistics is None:
            names = [f"stats/{name}/{key}" for name in self.features for key in STATISTICS]
            try:
                self._statistics = self._episodes(names)
            except (OSError, ValueError) as error:
                raise StoreError(f"{self.folder}: its statistics cannot be read ({error}); `dvc repro`") from None
            if self._statistics.num_columns != len(names):
                raise StoreError(f"{self.folder} was written by an older release; record it again: `dvc repro`")
        row = self._statistics.slice(index, 1).to_pylist()[0]
        return {name: {key: row[f"stats/{name}/{key}"] for key in STATISTICS} for name in self.features}

    def columns(self, index: int, names: Sequence[str]) -> pa.Table:
        """Read columns of an episode's rows in the data files."""
        file, group = self._rows[index]
        path = data_file(self.folder, file)
        try:
            table = self._files().data(path).read_row_group(group, columns=list(names), use_threads=False)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise StoreError(f"{path} cannot be read ({error}); `dvc checkout` or `dvc repro` restores it") from None
        if table.num_rows != self.infos[index].length:
            raise StoreError(f"{path} does not contain {self.infos[index].id}; `dvc checkout` restores it")
        return table

    def video_location(self, index: int, name: str = IMAGE) -> tuple[Path, VideoLocation]:
        """Return the video file of an episode for an image feature, and the location in it."""
        file, start = self._videos[name][index]
        checksums = self._checksums[name][index].values.to_numpy()
        return video_file(self.folder, name, file), VideoLocation(file, start, checksums)

    def _vector(self, index: int, name: str) -> Float32 | None:
        if name not in self.features:
            return None
        return _matrix(self.columns(index, [name]), name)

    def actions(self, index: int) -> Float32:
        """Read the actions (T, A) of an episode, in the source's units."""
        return _matrix(self.columns(index, [ACTION]), ACTION)

    def state(self, index: int) -> Float32 | None:
        """Read the states (T, 14) of an episode, columns STATE_NAMES; None if the source has none."""
        return self._vector(index, STATE)

    def keypoints(self, index: int) -> Float32 | None:
        """Read the keypoints (T, 6) of an episode, columns KEYPOINT_NAMES; None if the source has none."""
        return self._vector(index, KEYPOINTS)

    def proprioception(self, index: int) -> Float32 | None:
        """(T, P) what the robot of an episode measures of itself; None if the source does not have it.

        Of a simulator state, these are the columns PROPRIOCEPTION_NAMES.
        """
        if PROPRIOCEPTION in self.features:
            return self._vector(index, PROPRIOCEPTION)
        return proprioception_of(self.state(index))

    def frames(self, index: int, start: int = 0, stop: int | None = None) -> UInt8:
        """Read frames (stop - start, H, W, 3) of an episode; only these are decoded."""
        return self.frames_at(index, range(self.infos[index].length)[start:stop])

    def frames_at(self, index: int, numbers: Sequence[int]) -> UInt8:
        """Read the frames (len(numbers), H, W, 3) with these increasing indices; only these are decoded.

        Raises StoreError if the file is damaged.
        """
        length = self.infos[index].length
        if any(not 0 <= n < length for n in numbers) or any(a >= b for a, b in pairwise(numbers)):
            raise ValueError(f"frame indices {list(numbers)} must be increasing and below {length}")
        if len(self.tiles) == 1:
            frames = np.empty((len(numbers), *self.frame_size, 3), np.uint8)
            self._decode(index, numbers, next(iter(self.tiles)), frames)
            return frames
        # Cells that no camera fills stay black.
        frames = np.zeros((len(numbers), *self.frame_size, 3), np.uint8)
        for name, tile in self.tiles.items():
            cell = np.empty((len(numbers), tile.height, tile.width, 3), np.uint8)
            self._decode(index, numbers, name, cell)
            frames[:, *tile.area] = cell
        return frames

    def _decode(self, index: int, numbers: Sequence[int], name: str, out: UInt8) -> None:
        """Decode frames of an image feature into `out` (len(numbers), h, w, 3)."""
        if not len(numbers):
            return
        if self.video:
            path, location = self.video_location(index, name)
            shares = split_for_threads(numbers, self._files().threads, self._gop)
            readers = [self._files().video(path, k, self._open_video) for k in range(len(shares))]
            self._files().run_in_threads(shares, lambda k, share: readers[k].read(location, numbers[share], out[share]))
            return
        images = self.columns(index, [f"{name}.bytes"]).column(name).combine_chunks().field("bytes")
        wanted = [images[n].as_buffer() for n in numbers]
        shares = split_for_threads(numbers, self._files().threads, 1)
        try:
            self._files().run_in_threads(shares, lambda _, share: PngReader().read(wanted[share], out[share]))
        except StoreError as error:
            path = data_file(self.folder, self._rows[index][0])
            raise StoreError(f"{path}: {error} in episode {self.infos[index].id}") from None

    def _open_video(self, path: Path) -> VideoReader:
        return VideoReader(path, rate_of(self.fps), self._gop)

    def read(self, index: int) -> Episode:
        """Read a whole episode."""
        info = self.infos[index]
        names = [name for name in VECTORS if name in self.features]
        table = self.columns(index, names)
        vectors = {name: _matrix(table, name) for name in names}
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
            proprioception=vectors.get(PROPRIOCEPTION),
        )


def _matrix(table: pa.Table, name: str) -> Float32:
    chunk = table.column(name).combine_chunks()
    values = chunk if pa.types.is_floating(chunk.type) else chunk.flatten()
    return np.asarray(values, np.float32).reshape(len(chunk), -1).copy()


def split_for_threads(numbers: Sequence[int], threads: int, gop: int) -> list[slice]:
    """Divide frame indices into parts of similar length for some threads. A group of pictures is not divided."""
    length = len(numbers)
    cuts = [0]
    borders = [p for p in range(1, length) if numbers[p] // gop != numbers[p - 1] // gop]
    for k in range(1, min(threads, length // SHARE)):
        ideal = length * k // threads
        cut = min((abs(p - ideal), p) for p in [*borders, 0])[1]
        if cut > cuts[-1]:
            cuts.append(cut)
    return [slice(*pair) for pair in pairwise([*cuts, length])]


class _Files:
    """The most recently used open files, and the decoding threads. A forked process needs its own."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._data: OrderedDict[Path, pq.ParquetFile] = OrderedDict()
        self._video: OrderedDict[tuple[Path, int], VideoReader] = OrderedDict()
        # Worker processes leave the other cores to their siblings.
        self.threads = 1 if parent_process() else min(THREADS, os.cpu_count() or 1)
        self._pool: ThreadPoolExecutor | None = None

    def data(self, path: Path) -> pq.ParquetFile:
        """Return the open data file."""
        return _recent(self._data, path, lambda: pq.ParquetFile(path, page_checksum_verification=True))

    def video(self, path: Path, number: int, open_it: Callable[[Path], VideoReader]) -> VideoReader:
        """Return a reader of the video file for the thread with this number."""
        return _recent(self._video, (path, number), lambda: open_it(path))

    def run_in_threads(self, shares: list[slice], work: Callable[[int, slice], None]) -> None:
        """Run `work` on all shares concurrently. Raises the first error."""
        if len(shares) == 1:
            work(0, shares[0])
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, "frames")
        # Wait for all threads, because none may write to the frames after an error was handled.
        done = [self._pool.submit(work, k, share) for k, share in enumerate(shares)]
        wait(done)
        for future in done:
            future.result()

    def close(self) -> None:
        for file in (*self._data.values(), *self._video.values()):
            file.close()
        self._data.clear()
        self._video.clear()


def _recent(files: OrderedDict[K, F], key: K, open_it: Callable[[], F]) -> F:
    if key not in files:
        files[key] = open_it()
        if len(files) > OPEN_FILES:
            files.popitem(last=False)[1].close()
    files.move_to_end(key)
    return files[key]
