"""The layout of a store: a LeRobotDataset v3 with additional columns.

A frame's row (`data/`) has, besides `timestamp`, `frame_index`, `episode_index`, `index` and `task_index`:

- `observation.images.main`: the frame, as PNG in the row or as video under `videos/`; if the cameras of a frame are
  stored separately, `observation.images.<camera>` for each, whose `info` contains its cell of the frame;
- `action`: the action that the policy chose for the frame, in the source's units;
- `observation.state`: the simulator's state, columns `roboalign.types.STATE_NAMES` (contact among them), if known;
- `observation.keypoints`: projected points, columns `roboalign.types.KEYPOINT_NAMES`, if known;
- `observation.proprioception`: what a recorded robot measures of itself, in its own units, if the spec reads it.

An episode's row (`meta/episodes/`) has, besides LeRobot's columns, `id`, `source`, `task` (a short name; the
instruction is in `tasks`), `policy`, `scene`, `split`, `success` (see `roboalign.types.Episode`), `data/row_group` (its
row group in the data file) and, for video, `videos/<image feature>/crc32`: a checksum of each frame's packet.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roboalign.store.spec import ImageFormat, StorageSpec, Tile
from roboalign.types import KEYPOINT_NAMES, PROPRIOCEPTION_NAMES, STATE_NAMES, Episode, Float32, Policy, Split

IMAGE, ACTION, STATE, KEYPOINTS, PROPRIOCEPTION = (
    "observation.images.main",
    "action",
    "observation.state",
    "observation.keypoints",
    "observation.proprioception",
)
VECTORS = (ACTION, STATE, KEYPOINTS, PROPRIOCEPTION)
CELL = "cell."
"""Prefix of the keys in a camera's `info` that contain its cell of the frame, in pixels."""
STEPS = ("frame_index", "episode_index", "index", "task_index")
"""Integer columns of every frame; all but the first are numbered within the store."""

MEGABYTE = 2**20
FILE_BYTES = 100 * MEGABYTE
"""Size in bytes at which a data file is closed (LeRobot's default)."""
FILE_EPISODES = 1000
"""Number of episodes at which a data file is closed, because the list of its row groups is read when it is opened."""
VIDEO_BYTES = 200 * MEGABYTE
"""Size in bytes at which a video file is closed (LeRobot's default)."""
VIDEO_SECONDS = 1000
"""Largest duration of a video file in seconds. LeRobot compares timestamps in single precision to 0.0001 s, which fails
beyond 1024 s."""
CHUNK_FILES = 1000
"""Number of files in one folder."""

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CODECS: dict[ImageFormat, str] = {"h264": "h264", "av1": "av1"}
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")


class StoreError(ValueError):
    """A store or an index cannot be read or written. The message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class EpisodeInfo:
    """Metadata of an episode, available without reading its frames. `length` counts frames; see `Episode` for the
    rest."""

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
    """Return the path of the data file with the given number."""
    return folder / DATA_PATH.format(chunk_index=number // CHUNK_FILES, file_index=number % CHUNK_FILES)


def video_file(folder: Path, feature: str, number: int) -> Path:
    """Return the path of the video file of an image feature with the given number."""
    indices = {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}
    return folder / VIDEO_PATH.format(video_key=feature, **indices)


def rate_of(fps: float) -> Fraction:
    """Convert frames per second to the fraction that video requires."""
    return Fraction(fps).limit_denominator(1001)


def fps_to_json(fps: float) -> float | int:
    """Convert frames per second to the number in info.json, an integer if possible."""
    return int(fps) if float(fps).is_integer() else fps


def features_of(
    episode: Episode, storage: StorageSpec, fps: float, cameras: Mapping[str, Tile] | None = None
) -> dict[str, Any]:
    """Return the `features` of info.json for an episode.

    Args:
        episode: the first episode, or one to compare with it.
        storage: storage of the frames.
        fps: frames per second.
        cameras: the cell of each image feature, if cameras are stored separately; None for whole frames.

    Raises StoreError if the arrays of the episode are inconsistent.
    """
    if episode.frames.ndim != 4 or episode.frames.shape[3] != 3 or episode.frames.dtype != np.uint8:
        raise StoreError(
            f"episode {episode.id}: frames are {episode.frames.dtype} {episode.frames.shape}, not uint8 (T, H, W, 3)"
        )
    length, height, width, _ = episode.frames.shape
    if not length:
        raise StoreError(f"episode {episode.id} has no frame")
    arrays = vectors_by_feature(episode)
    for name, array in arrays.items():
        if array is not None and (
            array.ndim != 2 or len(array) != length or not array.shape[1] or not np.isfinite(array).all()
        ):
            raise StoreError(
                f"episode {episode.id}: {name} has shape {array.shape} or values that are not finite; "
                f"it needs one finite row for each of the {length} frames"
            )
    column_names = {STATE: STATE_NAMES, KEYPOINTS: KEYPOINT_NAMES}
    for name, names in column_names.items():
        array = arrays[name]
        if array is not None and array.shape[1] != len(names):
            raise StoreError(
                f"episode {episode.id}: {name} has {array.shape[1]} columns, not {len(names)}: {', '.join(names)}"
            )
    column_names[ACTION] = tuple(f"action_{i}" for i in range(episode.actions.shape[1]))
    if episode.proprioception is not None:
        column_names[PROPRIOCEPTION] = tuple(f"proprioception_{i}" for i in range(episode.proprioception.shape[1]))
    vectors = {
        name: {"dtype": "float32", "shape": [array.shape[1]], "names": list(column_names[name])}
        for name, array in arrays.items()
        if array is not None
    }
    scalars = {"timestamp": "float32"} | dict.fromkeys(STEPS, "int64")
    images = image_features(episode.id, height, width, storage, fps, cameras)
    features = images | vectors | {k: {"dtype": v, "shape": [1], "names": None} for k, v in scalars.items()}
    # Sorted as in info.json, because columns follow this order in written and in merged stores.
    return dict(sorted(features.items()))


def vectors_by_feature(episode: Episode) -> dict[str, Float32 | None]:
    """The vectors of an episode, each (T, width), by feature; None for what its source does not have."""
    return {
        ACTION: episode.actions,
        STATE: episode.state,
        KEYPOINTS: episode.keypoints,
        PROPRIOCEPTION: episode.proprioception,
    }


def proprioception_of(state: Float32 | None) -> Float32 | None:
    """The columns PROPRIOCEPTION_NAMES of simulator states (T, 14); None without states."""
    return None if state is None else state[:, [STATE_NAMES.index(name) for name in PROPRIOCEPTION_NAMES]]


def image_features(
    name: str, height: int, width: int, storage: StorageSpec, fps: float, cameras: Mapping[str, Tile] | None
) -> dict[str, Any]:
    """Return the image features of frames of `height` x `width` pixels.

    Raises StoreError, which names the episode, if they cannot be stored as video.
    """
    tiles = cameras or {IMAGE: Tile(0, 0, height, width)}
    kind = image_format(storage, tiles)
    features: dict[str, Any] = {}
    for key, tile in tiles.items():
        feature: dict[str, Any] = {
            "dtype": "image",
            "shape": [tile.height, tile.width, 3],
            "names": ["height", "width", "channels"],
        }
        if kind != "png":
            if tile.height % 2 or tile.width % 2:
                raise StoreError(
                    f"episode {name}: frames of {tile.height}x{tile.width} cannot be stored as {kind} video, which "
                    "needs even sides; resize them, or set the storage to png"
                )
            feature["dtype"] = "video"
            feature["info"] = {
                "video.height": tile.height,
                "video.width": tile.width,
                "video.channels": 3,
                "video.codec": CODECS[kind],
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": fps_to_json(fps),
                "video.g": storage.gop,
                "video.crf": storage.crf,
                "has_audio": False,
            }
        if cameras:
            cell = asdict(tile) | {"frame_height": height, "frame_width": width}
            feature["info"] = feature.get("info", {}) | {f"{CELL}{side}": value for side, value in cell.items()}
        features[key] = feature
    return features


def image_format(storage: StorageSpec, tiles: Mapping[str, Tile]) -> ImageFormat:
    """Return the format of the frames or of all cameras' cells, which depends on the largest sides."""
    return storage.images(max(tile.height for tile in tiles.values()), max(tile.width for tile in tiles.values()))


def image_tiles(features: Mapping[str, Any]) -> dict[str, Tile]:
    """Return the cell of the frame that each image feature fills.

    Raises KeyError, TypeError or ValueError if the features are not those of an episode store.
    """
    height, width = frame_size(features)
    if IMAGE in features:
        return {IMAGE: Tile(0, 0, height, width)}
    sides = ("top", "left", "height", "width")
    images = {key: value["info"] for key, value in features.items() if value["dtype"] in ("image", "video")}
    tiles = {key: Tile(*(int(info[f"{CELL}{side}"]) for side in sides)) for key, info in images.items()}
    for key, tile in tiles.items():
        fits = min(tile.top, tile.left) >= 0 and tile.top + tile.height <= height and tile.left + tile.width <= width
        if not fits:
            raise ValueError(f"the cell of {key} is outside the frame of {height}x{width}")
    return tiles


def frame_size(features: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of the frames. Raises KeyError, TypeError or ValueError for features of another
    layout."""
    if IMAGE in features:
        height, width, _ = features[IMAGE]["shape"]
        return int(height), int(width)
    images = [value["info"] for value in features.values() if value["dtype"] in ("image", "video")]
    if not images:
        raise ValueError("it has no image feature")
    return int(images[0][f"{CELL}frame_height"]), int(images[0][f"{CELL}frame_width"])


def data_schema(features: dict[str, Any]) -> pa.Schema:
    """Return the schema of the data files, with the metadata by which the `datasets` library recognises images."""
    columns: dict[str, pa.DataType] = {}
    features_by_name: dict[str, Any] = {}
    for name, feature in features.items():
        match feature["dtype"]:
            case "image":
                columns[name] = pa.struct({"bytes": pa.binary(), "path": pa.string()})
                features_by_name[name] = {"_type": "Image"}
            case "video":
                pass
            case dtype:
                value = {"dtype": dtype, "_type": "Value"}
                kind = pa.float32() if dtype == "float32" else pa.int64()
                width = feature["shape"][0]
                vector = name in VECTORS and width > 1
                columns[name] = pa.list_(kind, width) if vector else kind
                features_by_name[name] = {"feature": value, "length": width, "_type": "Sequence"} if vector else value
    schema = pa.schema(columns)
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features_by_name}})})


def episode_schema(features: dict[str, Any]) -> pa.Schema:
    """Return the schema of the table of episodes."""
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
    for name, feature in features.items():
        if feature["dtype"] == "video":
            columns |= {
                f"videos/{name}/chunk_index": pa.int64(),
                f"videos/{name}/file_index": pa.int64(),
                f"videos/{name}/from_timestamp": pa.float64(),
                f"videos/{name}/to_timestamp": pa.float64(),
                f"videos/{name}/crc32": pa.list_(pa.uint32()),
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
    """Open a writer that stores uncompressed columns, with a checksum for each page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # PNG does not compress further, and statistics would store whole images as the bounds of a column. Those of the
    # episode index let readers skip other episodes.
    return pq.ParquetWriter(
        path,
        schema,
        compression="none",
        use_dictionary=False,
        write_statistics=["episode_index"],
        write_page_checksum=True,
    )


def vector_column(values: Float32) -> pa.Array:
    """Convert (T, D) to a column of vectors, or of scalars if D is 1, as LeRobot stores features of shape 1."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
