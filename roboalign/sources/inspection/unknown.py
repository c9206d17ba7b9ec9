"""Describes a folder of unknown format: its files, their keys, and the reader that is closest to it."""

import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import h5py
import pyarrow.parquet as pq

from roboalign.io import parse_json
from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.inspection.layouts.layout import VIDEOS
from roboalign.sources.readers.arrays import BAD_ARRAY, read_npy
from roboalign.sources.readers.example import features
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.hdf5 import UNREADABLE, data_sets
from roboalign.sources.readers.lerobot_meta import BAD_PARQUET
from roboalign.sources.readers.tfrecord import records

DEPTH = 4
"""Number of folder levels that are searched."""
SUFFIXES, KEYS, FORMATS = 8, 8, 4
"""Largest numbers of suffixes that are counted, of keys of a file that are listed, and of formats of which a file is
opened."""


def describe_unknown(files: Files) -> str:
    """Describe the content of an unknown data set; '' if its files cannot be listed.

    The description contains file counts by suffix, the keys of the first file of each format, and the closest reader
    with the first thing that it misses.
    """
    paths = [path for depth in range(DEPTH) for path in files.find("/".join(["*"] * (depth + 1)))]
    counts = Counter(suffix for path in paths if (suffix := suffix_of(path)))
    if not counts:
        return ""
    suffix_counts = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(SUFFIXES))
    further = f", and {len(counts) - SUFFIXES} more kinds" if len(counts) > SUFFIXES else ""
    lines = [f"by suffix: {suffix_counts}{further}"]
    opened: dict[str, list[str]] = {}
    for suffix, read_keys in KEYS_OF.items():
        first = next((path for path in paths if suffix_of(path) == suffix), None)
        if first is not None and len(opened) < FORMATS:
            opened[suffix] = keys_of(files, first, read_keys)
            keys = ", ".join(opened[suffix][:KEYS]) or "nothing readable"
            lines.append(f"{first} contains {keys}" + (", …" if len(opened[suffix]) > KEYS else ""))
    lines.append(closest_reader(set(counts), opened))
    return "".join(f"\n{line}" for line in lines)


def suffix_of(path: str) -> str:
    """Return the suffix of a file name in lower case; `.tfrecord` also if a shard number follows it."""
    name = PurePosixPath(path).name.lower()
    return ".tfrecord" if ".tfrecord" in name else PurePosixPath(name).suffix


def keys_of(files: Files, path: str, read_keys: Callable[[Any], list[str]]) -> list[str]:
    """Return the keys of a file; [] if it cannot be read."""
    try:
        with files.open(path) as file:
            return read_keys(file)
    except (DamagedError, SourceError, OSError, *BAD_ARRAY, *BAD_PARQUET, *UNREADABLE):
        return []


def json_keys(text: bytes) -> list[str]:
    """Return the keys of a JSON object, or of the first object in a list."""
    value = parse_json(text)
    head = value[0] if isinstance(value, list) and value else value
    return list(head) if isinstance(head, dict) else []


def hdf5_keys(stream: Any) -> list[str]:
    """Return the paths of the data sets of an HDF5 file."""
    with h5py.File(stream, "r") as file:
        return list(data_sets(file))


def npy_keys(stream: Any) -> list[str]:
    """Return the dtype and shape of an array."""
    array = read_npy(stream)
    return [f"{array.dtype} {array.shape}"]


def tfrecord_keys(stream: Any) -> list[str]:
    """Return the features of the first record."""
    return [key for record in islice(records(stream), 1) if isinstance(record, bytes) for key in features(record)]


KEYS_OF: dict[str, Callable[[Any], list[str]]] = {
    ".tfrecord": tfrecord_keys,
    ".parquet": lambda stream: list(pq.ParquetFile(stream).schema_arrow.names),
    ".hdf5": hdf5_keys,
    ".h5": hdf5_keys,
    ".npz": lambda stream: [name.removesuffix(".npy") for name in zipfile.ZipFile(stream).namelist()],
    ".npy": npy_keys,
    ".jsonl": lambda stream: json_keys(stream.readline()),
    ".json": lambda stream: json_keys(stream.read()),
    ".csv": lambda stream: stream.readline().decode("utf-8", "replace").strip().split(","),
}
"""Function that reads the keys of a file, by suffix."""


def closest_reader(suffixes: set[str], keys: Mapping[str, Sequence[str]]) -> str:
    """Name the closest reader and the first thing that it misses."""
    videos = sorted(suffixes & set(VIDEOS))
    arrays = keys.get(".hdf5") or keys.get(".h5") or ()
    if ".tfrecord" in suffixes:
        return "closest reader: `rlds`; features.json is missing, which TensorFlow Datasets writes next to the shards"
    if ".parquet" in suffixes:
        return "closest reader: `lerobot`; meta/info.json is missing; `uri` is the folder that contains meta/"
    if suffixes & {".hdf5", ".h5"}:
        if any(key.split("/")[0] in ("observations", "action") for key in arrays):
            return "closest reader: `aloha`; images are missing under observations/images/<camera>"
        return "closest reader: `libero`; demonstrations are missing under data/demo_*"
    if videos and ".json" in suffixes and ".jsonl" not in suffixes:
        return "closest reader: `ctrl_world`; annotation/<split>/*.json with a list `videos` is missing"
    if videos:
        missing = (
            "a .jsonl line with the path of a video"
            if ".jsonl" in suffixes
            else "episodes.jsonl with one line per video"
        )
        return f"closest reader: `videos` (found {', '.join(videos)} files); {missing} is missing"
    if ".npz" in suffixes:
        if any(key.startswith("rgb_") for key in keys.get(".npz", ())):
            return (
                "closest reader: `calvin`; lang_annotations/auto_lang_ann.npy is missing in training/ and validation/"
            )
        return "closest reader: `npz`; an array of images, uint8 (T, H, W, 3), is missing"
    if ".jsonl" in suffixes:
        return "closest reader: `videos`; a line with the path of a video (.mp4 or similar) is missing"
    return "no reader is close; the simplest format is `npz`: one file per episode with the arrays image and action"
