"""The layout of a store: a LeRobotDataset v3, its features, its files, and the columns that are ours.

A frame's row (`data/`) has, besides `timestamp`, `frame_index`, `episode_index`, `index` and `task_index`:

- `observation.images.main`: the frame, as PNG here or as video under `videos/`;
- `action`: what the policy chose on seeing the frame, in the source's own units;
- `observation.state`: the simulator's state, columns `roboalign.types.STATE_NAMES` (contact among them), where known;
- `observation.keypoints`: projected points, columns `roboalign.types.KEYPOINT_NAMES`, where known.

An episode's row (`meta/episodes/`) has, besides LeRobot's own columns, `id`, `source`, `task` (the short name; the
instruction is in `tasks`), `policy`, `scene`, `split`, `success` (see `roboalign.types.Episode`), `data/row_group` (its
row group in the data file) and, for video, `videos/observation.images.main/crc32`: a checksum of each frame's packet.
"""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roboalign.store.spec import Images, StorageSpec
from roboalign.types import KEYPOINT_NAMES, STATE_NAMES, Episode, Float32, Policy, Split

IMAGE, ACTION, STATE, KEYPOINTS = (
    "observation.images.main",
    "action",
    "observation.state",
    "observation.keypoints",
)
VECTORS = (ACTION, STATE, KEYPOINTS)
STEPS = ("frame_index", "episode_index", "index", "task_index")
"""The integer columns of every frame; all but the first are a store's own numbering."""

MEGABYTE = 2**20
FILE_BYTES = 100 * MEGABYTE
"""A data file is closed once it holds this much (LeRobot's default)."""
FILE_EPISODES = 1000
"""A data file is closed once it holds this many episodes: the list of its row groups is read whenever it is opened."""
VIDEO_BYTES = 200 * MEGABYTE
"""A video file is closed once it holds this much (LeRobot's default)."""
VIDEO_SECONDS = 1000
"""A video file is closed before it is longer: LeRobot compares times in single precision to 0.0001 s, which fails
beyond 1024 s."""
CHUNK_FILES = 1000
"""Files of one folder."""

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CODECS: dict[Images, str] = {"h264": "h264", "av1": "av1"}
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")


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


def data_file(folder: Path, number: int) -> Path:
    """The data file with the given number."""
    return folder / DATA_PATH.format(chunk_index=number // CHUNK_FILES, file_index=number % CHUNK_FILES)


def video_file(folder: Path, number: int) -> Path:
    """The video file with the given number."""
    place = {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}
    return folder / VIDEO_PATH.format(video_key=IMAGE, **place)


def rate_of(fps: float) -> Fraction:
    """Frames a second as the ratio that video needs."""
    return Fraction(fps).limit_denominator(1001)


def plain(fps: float) -> float | int:
    """Frames a second as info.json has them: an integer where they are one."""
    return int(fps) if float(fps).is_integer() else fps


def features_of(episode: Episode, storage: StorageSpec, fps: float) -> dict[str, Any]:
    """The `features` of info.json. Raises StoreError where the arrays of the episode do not fit each other."""
    if episode.frames.ndim != 4 or episode.frames.shape[3] != 3 or episode.frames.dtype != np.uint8:
        raise StoreError(
            f"episode {episode.id}: frames are {episode.frames.dtype} {episode.frames.shape}, not uint8 (T, H, W, 3)"
        )
    length, height, width, channels = episode.frames.shape
    if not length:
        raise StoreError(f"episode {episode.id} has no frame")
    arrays = {ACTION: episode.actions, STATE: episode.state, KEYPOINTS: episode.keypoints}
    for name, array in arrays.items():
        if array is not None and (
            array.ndim != 2 or len(array) != length or not array.shape[1] or not np.isfinite(array).all()
        ):
            raise StoreError(
                f"episode {episode.id}: {name} has shape {array.shape} or values that are not finite; "
                f"it needs one finite row for each of the {length} frames"
            )
    known = {STATE: STATE_NAMES, KEYPOINTS: KEYPOINT_NAMES}
    for name, names in known.items():
        array = arrays[name]
        if array is not None and array.shape[1] != len(names):
            raise StoreError(
                f"episode {episode.id}: {name} has {array.shape[1]} columns, not {len(names)}: {', '.join(names)}"
            )
    known[ACTION] = tuple(f"action_{i}" for i in range(episode.actions.shape[1]))
    vectors = {
        name: {"dtype": "float32", "shape": [array.shape[1]], "names": list(known[name])}
        for name, array in arrays.items()
        if array is not None
    }
    scalars = {"timestamp": "float32"} | dict.fromkeys(STEPS, "int64")
    image: dict[str, Any] = {
        "dtype": "image",
        "shape": [height, width, channels],
        "names": ["height", "width", "channels"],
    }
    images = storage.images(height, width)
    if images != "png":
        if height % 2 or width % 2:
            raise StoreError(
                f"episode {episode.id}: frames of {height}x{width} cannot be kept as {images} video, whose sides are "
                "even; resize them, or set the storage to png"
            )
        image["dtype"] = "video"
        image["info"] = {
            "video.height": height,
            "video.width": width,
            "video.channels": channels,
            "video.codec": CODECS[images],
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": plain(fps),
            "video.g": storage.gop,
            "video.crf": storage.crf,
            "has_audio": False,
        }
    features = {IMAGE: image} | vectors | {k: {"dtype": v, "shape": [1], "names": None} for k, v in scalars.items()}
    # In the order that info.json has them: columns follow it, whether a store was written or merged.
    return dict(sorted(features.items()))


def data_schema(features: dict[str, Any]) -> pa.Schema:
    """Columns of the data files, with what the `datasets` library needs to know an image from a record."""
    columns: dict[str, pa.DataType] = {}
    described: dict[str, Any] = {}
    for name, feature in features.items():
        match feature["dtype"]:
            case "image":
                columns[name] = pa.struct({"bytes": pa.binary(), "path": pa.string()})
                described[name] = {"_type": "Image"}
            case "video":
                pass
            case dtype:
                value = {"dtype": dtype, "_type": "Value"}
                kind = pa.float32() if dtype == "float32" else pa.int64()
                width = feature["shape"][0]
                vector = name in VECTORS and width > 1
                columns[name] = pa.list_(kind, width) if vector else kind
                described[name] = {"feature": value, "length": width, "_type": "Sequence"} if vector else value
    schema = pa.schema(columns)
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": described}})})


def episode_schema(features: dict[str, Any]) -> pa.Schema:
    """Columns of the episodes' table."""
    video = features[IMAGE]["dtype"] == "video"
    columns: dict[str, pa.DataType] = {
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
    if video:
        columns |= {
            f"videos/{IMAGE}/chunk_index": pa.int64(),
            f"videos/{IMAGE}/file_index": pa.int64(),
            f"videos/{IMAGE}/from_timestamp": pa.float64(),
            f"videos/{IMAGE}/to_timestamp": pa.float64(),
            f"videos/{IMAGE}/crc32": pa.list_(pa.uint32()),
        }
    columns |= {"meta/episodes/chunk_index": pa.int64(), "meta/episodes/file_index": pa.int64()}
    for name, feature in features.items():
        for statistic in STATISTICS:
            kind = pa.list_(pa.int64() if statistic == "count" else pa.float64())
            if feature["dtype"] in ("image", "video") and statistic != "count":
                kind = pa.list_(pa.list_(kind))
            columns[f"stats/{name}/{statistic}"] = kind
    return pa.schema(columns)


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer that stores columns as they are, each page with its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # PNG does not compress further, and statistics would store whole images as the bounds of a column; those of the
    # episode's number let readers skip what they do not look for.
    return pq.ParquetWriter(
        path,
        schema,
        compression="none",
        use_dictionary=False,
        write_statistics=["episode_index"],
        write_page_checksum=True,
    )


def vectors_of(values: Float32) -> pa.Array:
    """(T, D) as a column of vectors; of scalars where D is 1, as LeRobot keeps features of shape 1."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
