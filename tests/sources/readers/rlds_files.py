"""Small RLDS data sets for the tests, written without TensorFlow."""

import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from roboalign.hardware.spec import ProcessesSpec
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import Damaged, RawEpisode
from roboalign.sources.readers.rlds import Rlds
from roboalign.sources.readers.spec import RldsSpec
from roboalign.sources.shards import IngestReport, materialise
from roboalign.store import EpisodeStore

Values = Sequence[bytes] | np.ndarray[Any, Any]
Record = dict[str, Values]
LENGTHS = (6, 5, 7)


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(values: Values) -> bytes:
    if not isinstance(values, np.ndarray):
        return field(1, b"".join(field(1, each) for each in values))
    if values.dtype.kind == "f":
        return field(2, field(1, values.astype("<f4").tobytes()))
    return field(3, field(1, b"".join(varint(int(each)) for each in values.reshape(-1))))


def example(record: Mapping[str, Values]) -> bytes:
    entries = (field(1, key.encode()) + field(2, feature(values)) for key, values in record.items())
    return field(1, b"".join(field(1, entry) for entry in entries))


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def image(array: np.ndarray[Any, Any], form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, quality=95)
    return buffer.getvalue()


def frames(number: int, high: int = 16, wide: int = 24) -> np.ndarray[Any, Any]:
    """Smooth images (steps, high, wide, 3), so that JPEG loses little."""
    y, x = np.mgrid[:high, :wide]
    steps = np.arange(LENGTHS[number])[:, None, None]
    red, green = 100 + 6 * y + 5 * steps, 60 + 5 * x + 7 * number + 0 * steps
    return np.stack([red, green, red - green + 100], -1).clip(0, 255).astype(np.uint8)


def record(number: int, form: str = "PNG") -> Record:
    """Episode `number` of three, as TFDS flattens it."""
    length = LENGTHS[number]
    rng = np.random.default_rng(number)
    return {
        "steps/observation/image": [image(each, form) for each in frames(number)],
        "steps/observation/depth": np.arange(length),
        "steps/action/world_vector": rng.normal(size=(length, 3)).astype(np.float32),
        "steps/action/gripper": rng.integers(0, 2, length),
        "steps/action/terminate": rng.integers(-3, 300, (length, 2)),
        "steps/language_instruction": [b"put the cup on the plate", *[b"later"] * (length - 1)],
        "steps/is_first": np.arange(length) == 0,
        "episode_metadata/file_path": [f"lab/kitchen{number}/traj{number}/out.npy".encode()],
        "episode_metadata/robot": np.asarray([number - 1]),
        "episode_metadata/good": np.asarray([number > 0]),
        "episode_metadata/weight": np.asarray([0.5 * number], np.float32),
    }


def tensor(dtype: str, *shape: int, encoding: str = "none") -> dict[str, Any]:
    dimensions = {"dimensions": [str(each) for each in shape]} if shape else {}
    return {"tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding}}


def image_feature(*shape: int) -> dict[str, Any]:
    described = {"dimensions": [str(each) for each in shape]}
    return {"image": {"shape": described, "dtype": "uint8", "encodingFormat": "png"}}


def group(**inner: Any) -> dict[str, Any]:
    return {"featuresDict": {"features": inner}}


def features(steps: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """`features.json`, with other or more features of a step or of the episode."""
    inner = {
        "observation": group(image=image_feature(16, 24, 3), depth=tensor("int32")),
        "action": group(world_vector=tensor("float32", 3), gripper=tensor("bool"), terminate=tensor("int32", 2)),
        "language_instruction": {"text": {}},
        "is_first": tensor("bool"),
    }
    known = {"file_path": {"text": {}}, "robot": tensor("int32"), "good": tensor("bool"), "weight": tensor("float32")}
    sequence = {"sequence": {"feature": group(**inner | (steps or {})), "length": "-1"}}
    return group(steps=sequence, episode_metadata=group(**known | (metadata or {})))


def info(lengths: Sequence[int] = (3,), **more: Any) -> dict[str, Any]:
    split = {"name": "train", "shardLengths": [str(each) for each in lengths]}
    return {"name": "toy", "version": "1.0.0", "splits": [split | more]}


def shard(number: int = 0, of: int = 1) -> str:
    return f"toy-train.tfrecord-{number:05d}-of-{of:05d}"


def write(folder: Path, records: Sequence[Mapping[str, Values] | bytes], described: Any = None) -> Path:
    """A data set of one shard; bytes stand for an Example already encoded."""
    folder.mkdir(parents=True, exist_ok=True)
    encoded = [each if isinstance(each, bytes) else example(each) for each in records]
    (folder / shard()).write_bytes(b"".join(map(framed, encoded)))
    (folder / "features.json").write_text(json.dumps(described or features()))
    (folder / "dataset_info.json").write_text(json.dumps(info((len(records),))))
    return folder


def spec(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "rlds",
        "uri": str(folder),
        "camera": "observation/image",
        "instruction": "language_instruction",
        "actions": [
            {"key": "action/world_vector"},
            {"key": "action/gripper", "skipped": "last"},
            {"key": "action/terminate", "skipped": "last"},
        ],
        "action_width": 6,
        "image": {"height": 16, "width": 24},
        "length": 2,
        "fps": 3,
        "tolerance": 1.0,
    } | changes


SPEC: TypeAdapter[RldsSpec] = TypeAdapter(RldsSpec)


def opened(folder: Path, **changes: Any) -> Rlds:
    parsed = SPEC.validate_python(spec(folder, **changes))
    return Rlds(parsed, Files.at(parsed.uri, parsed.options, folder / "cache"))


def read(folder: Path, **changes: Any) -> list[RawEpisode | Damaged]:
    reader = opened(folder, **changes)
    return [each for part in reader.parts() for each in reader.read(part)]


def sound(folder: Path, **changes: Any) -> list[RawEpisode]:
    found = read(folder, **changes)
    assert all(isinstance(each, RawEpisode) for each in found), found
    return [each for each in found if isinstance(each, RawEpisode)]


def made(folder: Path, place: Path, **changes: Any) -> tuple[IngestReport, EpisodeStore]:
    parsed = SPEC.validate_python(spec(folder, **changes))
    executor = ProcessesSpec(kind="processes", workers=1)
    output = place / "store"
    report = materialise(parsed, "toy", output, place / "scratch", place / "cache", executor, lambda *_: None)
    return report, EpisodeStore(output)
