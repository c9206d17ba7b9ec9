"""Reading a store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roboalign.io import read_json
from roboalign.store.images import decode_png
from roboalign.store.layout import ACTION, IMAGE, KEYPOINTS, STATE, EpisodeInfo, StoreError, data_file
from roboalign.types import Episode, Float32, UInt8


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
        path = data_file(self.folder, file)
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
