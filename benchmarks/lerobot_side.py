"""What LeRobot's own loader makes of a store. Runs in an interpreter that has `lerobot[dataset]`, without RoboAlign.

python benchmarks/lerobot_side.py read STORE OUT     write every frame, action, state and task as .npy files to OUT
python benchmarks/lerobot_side.py speed STORE WORKS  read as each of WORKS (JSON) says, and print the figures as JSON
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

IMAGE = "observation.images.main"


def opened(store: Path, **options: Any) -> Any:
    """The store as LeRobot opens it."""
    return LeRobotDataset("roboalign/store", root=store, **options)


def read(store: Path, out: Path) -> None:
    """Write what LeRobot reads: the frames of each camera as uint8 (N, H, W, 3), vectors, tasks, lengths, columns."""
    data = opened(store)
    out.mkdir(parents=True, exist_ok=True)
    items = [data[number] for number in range(len(data))]
    for camera in data.meta.camera_keys:
        scaled = torch.stack([item[camera] for item in items]) * 255
        whole = scaled.round()
        # A frame that lies between two levels was not 8 bits a channel.
        assert float((scaled - whole).abs().max()) < 1e-3
        np.save(out / f"{camera}.npy", whole.to(torch.uint8).permute(0, 2, 3, 1).numpy())
    observed = (f"observation.{name}" for name in ("state", "keypoints", "proprioception"))
    for name in ("action", *observed, "timestamp", "episode_index", "frame_index"):
        if name in items[0]:
            np.save(out / f"{name}.npy", torch.stack([item[name] for item in items]).numpy())
    known = {
        "tasks": [item["task"] for item in items],
        "lengths": [int(row["length"]) for row in data.meta.episodes],
        "columns": sorted(data.meta.episodes.features),
        "statistics": {
            name: {key: np.asarray(value).tolist() for key, value in found.items()}
            for name, found in data.meta.stats.items()
        },
        "fps": data.fps,
    }
    (out / "known.json").write_text(json.dumps(known))


class Clips(torch.utils.data.Dataset[Any]):
    """The clips that the work names, through LeRobot's own indexing."""

    def __init__(self, data: Any, numbers: list[int]) -> None:
        self.data, self.numbers = data, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Any:
        item = self.data[self.numbers[number]]
        return {IMAGE: item[IMAGE], "action": item["action"]}


def speed(store: Path, work: dict[str, Any]) -> dict[str, Any]:
    """Frames, seconds, and the peak memory so far, of one kind of reading.

    `work`: `starts` (frame numbers over the whole store), `length` (frames of a clip), `workers`, `backend`, `uint8`.
    """
    torch.set_num_threads(1)
    length = work["length"]
    fps = json.loads((store / "meta/info.json").read_text())["fps"]
    offsets = [t / fps for t in range(length)]
    options: dict[str, Any] = {"video_backend": work["backend"], "return_uint8": work["uint8"]}
    if length > 1:
        options["delta_timestamps"] = {IMAGE: offsets, "action": offsets}
    data = opened(store, **options)
    clips = Clips(data, work["starts"])
    if not work["workers"]:
        _ = clips[0]  # what is opened once is not counted; workers must not inherit open decoders
    start, frames = time.perf_counter(), 0
    if work["workers"]:
        loader = torch.utils.data.DataLoader(clips, batch_size=work["batch"], num_workers=work["workers"])
        for number, batch in enumerate(loader):
            if number == 0:  # the workers have begun
                start = time.perf_counter()
            else:
                frames += batch[IMAGE].shape[0] * length
    else:
        for number in range(len(clips)):
            item = clips[number]
            frames += item[IMAGE].shape[0] if length > 1 else 1
    seconds = time.perf_counter() - start
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"frames": frames, "seconds": seconds, "megabytes": max(usage) / 1024}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["read", store, out]:
            read(Path(store), Path(out))
        case ["speed", store, works]:
            print(json.dumps([speed(Path(store), work) for work in json.loads(works)]))
        case _:
            sys.exit(__doc__)
