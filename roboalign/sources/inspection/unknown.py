"""What a place of no known format holds, and which reader is nearest to it."""

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
"""Levels of folders that are looked through."""
SUFFIXES, KEYS, FORMATS = 8, 8, 4
"""Suffixes that are counted, keys of a file that are named, and formats of which a file is opened."""


def describe_unknown(files: Files) -> str:
    """What is there: suffixes and counts, the first file's keys of each format, and the nearest reader with the first
    thing that is missing. '' if the place cannot list its files."""
    paths = [path for depth in range(DEPTH) for path in files.find("/".join(["*"] * (depth + 1)))]
    counts = Counter(suffix for path in paths if (suffix := suffix_of(path)))
    if not counts:
        return ""
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(SUFFIXES))
    more = f", and {len(counts) - SUFFIXES} more kinds" if len(counts) > SUFFIXES else ""
    lines = [f"by suffix: {listed}{more}"]
    opened: dict[str, list[str]] = {}
    for suffix, read_keys in KEYS_OF.items():
        first = next((path for path in paths if suffix_of(path) == suffix), None)
        if first is not None and len(opened) < FORMATS:
            opened[suffix] = keys_of(files, first, read_keys)
            shown = ", ".join(opened[suffix][:KEYS]) or "nothing that can be read"
            lines.append(f"{first} holds {shown}" + (", …" if len(opened[suffix]) > KEYS else ""))
    lines.append(nearest_reader(set(counts), opened))
    return "".join(f"\n{line}" for line in lines)


def suffix_of(path: str) -> str:
    """The suffix of a file's name in small letters; `.tfrecord` also before the number of a shard."""
    name = PurePosixPath(path).name.lower()
    return ".tfrecord" if ".tfrecord" in name else PurePosixPath(name).suffix


def keys_of(files: Files, path: str, read_keys: Callable[[Any], list[str]]) -> list[str]:
    """The keys of a file; [] if it cannot be read."""
    try:
        with files.open(path) as file:
            return read_keys(file)
    except (DamagedError, SourceError, OSError, *BAD_ARRAY, *BAD_PARQUET, *UNREADABLE):
        return []


def json_keys(text: bytes) -> list[str]:
    """The keys of a JSON object, or of the first one of a list."""
    value = parse_json(text)
    head = value[0] if isinstance(value, list) and value else value
    return list(head) if isinstance(head, dict) else []


def hdf5_keys(stream: Any) -> list[str]:
    """The data sets of an HDF5 file, by path."""
    with h5py.File(stream, "r") as file:
        return list(data_sets(file))


def npy_keys(stream: Any) -> list[str]:
    """The shape and type of an array."""
    array = read_npy(stream)
    return [f"{array.dtype} {array.shape}"]


def tfrecord_keys(stream: Any) -> list[str]:
    """The features of the first record."""
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
"""How the keys of a file are read, by its suffix."""


def nearest_reader(suffixes: set[str], keys: Mapping[str, Sequence[str]]) -> str:
    """The reader whose files are there, and the first thing that it lacks."""
    videos = sorted(suffixes & set(VIDEOS))
    arrays = keys.get(".hdf5") or keys.get(".h5") or ()
    if ".tfrecord" in suffixes:
        return "nearest is `rlds`: there is no features.json, which TensorFlow Datasets writes beside the shards"
    if ".parquet" in suffixes:
        return "nearest is `lerobot`: there is no meta/info.json; `uri` is the folder that holds meta/"
    if suffixes & {".hdf5", ".h5"}:
        if any(key.split("/")[0] in ("observations", "action") for key in arrays):
            return "nearest is `aloha`: there are no pictures observations/images/<camera>"
        return "nearest is `libero`: there is no group data/demo_* with demonstrations"
    if videos and ".json" in suffixes and ".jsonl" not in suffixes:
        return "nearest is `ctrl_world`: there is no annotation/<split>/*.json with a list `videos`"
    if videos:
        what = "lines that name a video under a key" if ".jsonl" in suffixes else "episodes.jsonl, a line a video"
        return f"nearest is `videos`: there are {', '.join(videos)}, but no {what}"
    if ".npz" in suffixes:
        if any(key.startswith("rgb_") for key in keys.get(".npz", ())):
            return "nearest is `calvin`: there is no lang_annotations/auto_lang_ann.npy in training/ or validation/"
        return "nearest is `npz`: no array holds pictures, uint8 (T, H, W, 3)"
    if ".jsonl" in suffixes:
        return "nearest is `videos`: no line names a video, by a path that ends in .mp4 or the like"
    return "no reader is near; the simplest to write for is `npz`: a file an episode with the arrays image and action"
