"""Writers of random episodes in every format that is read, each with the library that the format's owners use."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import lerobot_files
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rlds_files
import test_aloha
import test_ctrl_world
import test_npz_episodes
from episode_sets import SIDE, Recorded
from pydantic import TypeAdapter

from roboalign.sources.spec import RecordedSpec, SourceSpec

Fields = dict[str, Any]
RATE = 5
"""Frames a second of the videos."""


def write_rlds(folder: Path, recorded: Sequence[Recorded]) -> Fields:
    width, cameras = recorded[0].actions.shape[1], list(recorded[0].frames)
    images = {name: rlds_files.image_feature(SIDE, SIDE, 3) for name in cameras}
    described = rlds_files.group(
        steps={
            "sequence": {
                "feature": rlds_files.group(
                    observation=rlds_files.group(**images),
                    action=rlds_files.tensor("float32", width),
                    language_instruction={"text": {}},
                )
            }
        }
    )
    records = []
    for each in recorded:
        record = {f"steps/observation/{name}": list(map(rlds_files.image, each.frames[name])) for name in each.frames}
        words = [each.instruction.encode()] * each.length
        records.append(record | {"steps/action": each.actions.reshape(-1), "steps/language_instruction": words})
    rlds_files.write(folder, records, described)
    return {
        "kind": "rlds", "camera": [f"observation/{name}" for name in cameras], "fps": RATE,
        "instruction": "language_instruction",
    }  # fmt: skip


def write_lerobot(folder: Path, recorded: Sequence[Recorded], kind: str) -> Fields:
    """Version 2.1; images in the Parquet files, or videos."""
    keys = {name: f"observation.images.{name}" for name in recorded[0].frames}
    scalars = dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64") | {"timestamp": "float32"}
    features: Fields = {key: {"dtype": kind, "shape": [SIDE, SIDE, 3]} for key in keys.values()}
    features |= {"action": {"dtype": "float32", "shape": [recorded[0].actions.shape[1]]}}
    features |= {key: {"dtype": dtype, "shape": [1]} for key, dtype in scalars.items()}
    (folder / "meta").mkdir(parents=True)
    info = {"codebase_version": "v2.1", "fps": RATE, "features": features, "total_episodes": len(recorded)}
    (folder / "meta/info.json").write_text(json.dumps(info))
    tasks = [{"task_index": number, "task": each.instruction} for number, each in enumerate(recorded)]
    rows = [{"episode_index": number, "length": each.length} for number, each in enumerate(recorded)]
    for name, lines in (("tasks", tasks), ("episodes", rows)):
        (folder / f"meta/{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for number, each in enumerate(recorded):
        steps = np.arange(each.length)
        table: Fields = {
            "action": list(each.actions), "timestamp": (steps / RATE).astype(np.float32), "frame_index": steps,
            "episode_index": np.full(each.length, number), "index": steps, "task_index": np.full(each.length, number),
        }  # fmt: skip
        for name, key in keys.items():
            frames = each.frames.get(name, ())
            if kind == "image":
                images = [lerobot_files.png(frame) for frame in frames]
                table[key] = images + [{"bytes": b"", "path": ""}] * (each.length - len(images))
            elif len(frames):
                place = f"videos/chunk-000/{key}/episode_{number:06d}.mp4"
                test_ctrl_world.film(folder / place, np.asarray(frames), RATE)
        path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({key: pa.array(value) for key, value in table.items()}), path)
    return {"kind": "lerobot", "camera": list(keys.values())}


def write_calvin(folder: Path, recorded: Sequence[Recorded]) -> Fields:
    bounds, start = [], 10
    (folder / "training/lang_annotations").mkdir(parents=True)
    for each in recorded:
        bounds.append((start, start + each.length - 1))
        for step in range(each.length):
            arrays = {name: frames[step] for name, frames in each.frames.items() if step < len(frames)}
            np.savez_compressed(
                folder / f"training/episode_{start + step:07d}.npz", rel_actions=each.actions[step], **arrays
            )
        start += each.length + 50
    texts = [each.instruction for each in recorded]
    found = {"language": {"ann": texts, "task": texts}, "info": {"indx": bounds}}
    np.save(folder / "training/lang_annotations/auto_lang_ann.npy", np.array(found, dtype=object))
    return {"kind": "calvin", "camera": list(recorded[0].frames), "actions": "rel_actions"}


def write_libero(folder: Path, recorded: Sequence[Recorded]) -> Fields:
    folder.mkdir(parents=True)
    for number, each in enumerate(recorded):
        with h5py.File(folder / f"{number}.hdf5", "w") as file:
            demo = file.create_group("data/demo_0")
            demo["actions"] = each.actions
            demo.attrs["words"] = each.instruction
            for name, frames in each.frames.items():
                demo[f"obs/{name}"] = frames
    return {
        "kind": "libero", "camera": [f"obs/{name}" for name in recorded[0].frames], "actions": "actions",
        "instruction": "words", "upside_down": False, "after_action": False,
    }  # fmt: skip


def write_videos(folder: Path, recorded: Sequence[Recorded]) -> Fields:
    lines = []
    for number, each in enumerate(recorded):
        paths = {name: f"{name}/{number}.mp4" for name in each.frames}
        for name, frames in each.frames.items():
            test_ctrl_world.film(folder / paths[name], frames, RATE)
        lines.append({**paths, "instruction": each.instruction, "action": each.actions.tolist()})
    (folder / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"kind": "videos", "camera": list(recorded[0].frames), "fps": RATE}


def write_npz(folder: Path, recorded: Sequence[Recorded]) -> Fields:
    test_npz_episodes.write(folder, list(recorded))
    return {"kind": "npz", "camera": list(recorded[0].frames), "fps": RATE}


def write_aloha(folder: Path, recorded: Sequence[Recorded]) -> Fields:
    test_aloha.write(folder, list(recorded))
    names = [f"{test_aloha.IMAGES}/{name}" for name in recorded[0].frames]
    return {"kind": "aloha", "camera": names, "instruction": "task"}


def write_ctrl_world(folder: Path, recorded: Sequence[Recorded]) -> Fields:
    test_ctrl_world.write(folder, list(recorded))
    return {
        "kind": "ctrl_world", "camera": [str(number) for number in range(len(recorded[0].frames))], "actions": "states"
    }  # fmt: skip


WRITERS: Mapping[str, Callable[[Path, Sequence[Recorded]], Fields]] = {
    "rlds": write_rlds,
    "lerobot images": lambda folder, recorded: write_lerobot(folder, recorded, "image"),
    "lerobot videos": lambda folder, recorded: write_lerobot(folder, recorded, "video"),
    "calvin": write_calvin,
    "libero": write_libero,
    "videos": write_videos,
    "npz": write_npz,
    "aloha": write_aloha,
    "ctrl_world": write_ctrl_world,
}
"""By format: writes episodes into a folder, and returns the fields of a spec that reads all their cameras."""
_SPEC: TypeAdapter[Any] = TypeAdapter(SourceSpec)


def write_source(
    form: str, folder: Path, recorded: Sequence[Recorded], skipped: str = "sum", **changes: Any
) -> RecordedSpec:
    """Write a data set and return the spec of all its cameras, side by side in cells of SIDE x SIDE pixels."""
    fields = WRITERS[form](folder, recorded)
    key = fields.get("actions", "action")
    fields |= {
        "uri": str(folder), "actions": [{"key": key, "skipped": skipped}],
        "action_width": recorded[0].actions.shape[1], "length": 2,
        "image": {"height": SIDE, "width": SIDE * len(recorded[0].frames)},
    }  # fmt: skip
    spec: RecordedSpec = _SPEC.validate_python(fields | changes)
    return spec
