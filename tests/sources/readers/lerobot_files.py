"""Small LeRobotDatasets of version 2.1 and 3 for the tests."""

import io
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from av.video.stream import VideoStream
from PIL import Image
from pydantic import TypeAdapter

from roboalign.hardware.spec import ProcessesSpec
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.lerobot import Lerobot
from roboalign.sources.readers.reader import Damaged, RawEpisode
from roboalign.sources.readers.spec import LerobotSpec
from roboalign.sources.shards import IngestReport, materialise
from roboalign.store import EpisodeStore

LENGTHS = (6, 5, 7)
FPS = 10
CAMERA = "observation.images.top"
TASKS = ("push the block", "open the drawer")
Plan = dict[str, Any]
"""What is about to be written, for tests to spoil: info, tasks, episodes, data (columns by episode), frames."""


def frames(number: int, high: int = 32, wide: int = 48) -> np.ndarray[Any, Any]:
    """Smooth images (steps, high, wide, 3) that get brighter from step to step, so that each is recognised."""
    y, x = np.mgrid[:high, :wide]
    steps = np.arange(LENGTHS[number])[:, None, None]
    base = 20 + 25 * steps + y // 2
    return np.stack([base, base + x // 2, base + 10 * number + 0 * x], -1).clip(0, 255).astype(np.uint8)


def columns(number: int) -> dict[str, Any]:
    """The columns of episode `number`, without images."""
    length, rng = LENGTHS[number], np.random.default_rng(number)
    return {
        "action": list(rng.normal(size=(length, 4)).astype(np.float32)),
        "gripper": rng.integers(0, 2, length).astype(np.float32),
        "note": [f"note {number}"] * length,
        "timestamp": (np.arange(length) / FPS).astype(np.float32),
        "frame_index": np.arange(length),
        "episode_index": np.full(length, number),
        "index": sum(LENGTHS[:number]) + np.arange(length),
        "task_index": np.full(length, number % 2),
    }


def plan(version: int, kind: str) -> Plan:
    scalars = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
    image = {"dtype": kind, "shape": [32, 48, 3], "names": ["height", "width", "channel"]}
    features = {
        CAMERA: image,
        "observation.depth": image | {"info": {"video.is_depth_map": True}},
        "action": {"dtype": "float32", "shape": [4], "names": ["x", "y", "z", "turn"]},
        "gripper": {"dtype": "float32", "shape": [1], "names": None},
        "note": {"dtype": "string", "shape": [1], "names": None},
    } | {key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in scalars.items()}
    info = {"codebase_version": f"v{version}.{1 if version == 2 else 0}", "fps": FPS, "features": features}
    info |= {"total_episodes": 3, "chunks_size": 1000}
    rows = [
        {"episode_index": n, "length": LENGTHS[n], "tasks": [TASKS[n % 2]], "room": f"room {n}", "good": n > 0}
        for n in range(3)
    ]
    return {
        "info": info,
        "tasks": dict(enumerate(TASKS)),
        "episodes": rows,
        "data": [columns(n) for n in range(3)],
        "frames": [frames(n) for n in range(3)],
    }


def write(folder: Path, version: int = 3, kind: str = "video", spoil: Callable[[Plan], None] | None = None) -> Path:
    """Version 3 puts episodes 0 and 1 into one data file, in one row group, and all into one video."""
    chosen = plan(version, kind)
    if spoil:
        spoil(chosen)
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(chosen["info"]))
    if kind == "image":
        for data, images in zip(chosen["data"], chosen["frames"], strict=True):
            if images is not None:
                rows = images[: len(data["index"])]
                data[CAMERA] = [each if isinstance(each, dict) else png(each) for each in rows]
    (write_v2 if version == 2 else write_v3)(folder, chosen, kind)
    return folder


def write_v2(folder: Path, chosen: Plan, kind: str) -> None:
    lines = [{"task_index": index, "task": text} for index, text in chosen["tasks"].items()]
    for name, rows in (("tasks", lines), ("episodes", chosen["episodes"])):
        (folder / f"meta/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number, data in enumerate(chosen["data"]):
        table(folder / f"data/chunk-000/episode_{number:06d}.parquet", [data])
        if kind == "video":
            video(folder / f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4", chosen["frames"][number])


def write_v3(folder: Path, chosen: Plan, kind: str) -> None:
    # As pandas leaves it: the text is the index, which has no name.
    tasks = {"task_index": list(chosen["tasks"]), "__index_level_0__": list(chosen["tasks"].values())}
    pq.write_table(pa.table(tasks), folder / "meta/tasks.parquet")
    table(folder / "data/chunk-000/file-000.parquet", chosen["data"][:2])
    table(folder / "data/chunk-000/file-001.parquet", chosen["data"][2:])
    start = 0.0
    for place, row in enumerate(chosen["episodes"]):
        number = min(place, 2)
        row |= {"data/chunk_index": 0, "data/file_index": number // 2}
        if kind == "video":
            stop = start + row["length"] / FPS
            lies = {"chunk_index": 0, "file_index": 0, "from_timestamp": start, "to_timestamp": stop}
            row.update({f"videos/{CAMERA}/{key}": value for key, value in lies.items() if f"no {key}" not in row})
            start = stop
        row["stats/action/mean"] = [0.0] * 4
    if kind == "video":
        video(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4", np.concatenate(chosen["frames"]))
    # The list of episodes is in two files.
    for number, rows in enumerate((chosen["episodes"][:2], chosen["episodes"][2:])):
        path = folder / f"meta/episodes/chunk-000/file-{number:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)


def table(path: Path, parts: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    joined = {key: [value for part in parts for value in part[key]] for key in parts[0]}
    arrays = {key: pa.array(value) for key, value in joined.items()}
    pq.write_table(pa.table(arrays), path)


def png(frame: np.ndarray[Any, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def video(
    path: Path,
    images: np.ndarray[Any, Any],
    rate: int | Fraction = FPS,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        chosen = options or {"g": "2", "crf": "18"}
        stream = cast(VideoStream, output.add_stream(codec, rate=rate, options=chosen))
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        for image in images:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        output.mux(stream.encode())


def spec(folder: Path, **changes: Any) -> LerobotSpec:
    value = {
        "kind": "lerobot",
        "uri": str(folder),
        "camera": CAMERA,
        "actions": [{"key": "action"}, {"key": "gripper", "skipped": "last"}],
        "action_width": 5,
        "image": {"height": 32, "width": 48},
        "length": 2,
        "tolerance": 1.0,
    }
    return TypeAdapter(LerobotSpec).validate_python(value | changes)


def read(folder: Path, **changes: Any) -> list[RawEpisode | Damaged]:
    """All episodes; each part by a reader of its own, as workers do it."""
    parsed = spec(folder, **changes)

    def reader() -> Lerobot:
        return Lerobot(parsed, Files.at(parsed.uri, parsed.options, folder / "cache"))

    return [each for part in reader().parts() for each in reader().read(part)]


def sound(folder: Path, **changes: Any) -> list[RawEpisode]:
    found = read(folder, **changes)
    assert all(isinstance(each, RawEpisode) for each in found), found
    return [each for each in found if isinstance(each, RawEpisode)]


def made(folder: Path, place: Path, **changes: Any) -> tuple[IngestReport, EpisodeStore]:
    executor = ProcessesSpec(kind="processes", workers=1)
    output = place / "store"
    report = materialise(
        spec(folder, **changes), "arm", output, place / "scratch", place / "cache", executor, lambda *_: None
    )
    return report, EpisodeStore(output)


def close(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], kind: str) -> bool:
    """Whether images are those that were written: exactly, or to what video loses (steps differ by 25)."""
    if kind == "image":
        return bool(np.array_equal(found, wanted))
    return found.shape == wanted.shape and bool(np.abs(found.astype(int) - wanted).mean((1, 2, 3)).max() < 5)
