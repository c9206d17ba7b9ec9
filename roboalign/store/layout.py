"""The layout of a store: its features, its files, and what is known of an episode without reading it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roboalign.types import KEYPOINT_NAMES, STATE_NAMES, Episode, Float32, Policy, Split

IMAGE, ACTION, STATE, KEYPOINTS = (
    "observation.images.main",
    "action",
    "observation.state",
    "observation.keypoints",
)
FILE_BYTES = 100 * 2**20
"""A data file is closed once it holds this much."""


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


EPISODES = pa.schema(
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
"""Columns of the episodes' table."""


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer that stores columns as they are."""
    # PNG does not compress further, and statistics would store whole images as the bounds of a column.
    return pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False)


def vectors_of(values: Float32) -> pa.Array:
    """(T, D) as a column of vectors."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def data_file(folder: Path, number: int) -> Path:
    """The data file with the given number."""
    return folder / f"data/chunk-000/file-{number:03d}.parquet"


def features_of(episode: Episode) -> dict[str, Any]:
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
