"""Run by an interpreter that has LeRobot: writes a data set with it, and what it reads back.

Arguments: folder to write, `video` or `image`, and a folder with frames_*.npy and actions_*.npy of each episode.
"""

import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

target, kind, given = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
CAMERA = "observation.images.top"
count = len(list(given.glob("frames_*.npy")))
shape = np.load(given / "frames_0.npy").shape[1:]
features = {
    CAMERA: {"dtype": kind, "shape": shape, "names": ["height", "width", "channels"]},
    "action": {"dtype": "float32", "shape": (4,), "names": None},
    "gripper": {"dtype": "float32", "shape": (1,), "names": None},
}
# Files of next to nothing, so that episodes are spread over several.
limits = {"video_files_size_in_mb": 0.002, "data_files_size_in_mb": 0.002}
dataset = LeRobotDataset.create(
    "some/one", 10, features, root=target, use_videos=kind == "video", metadata_buffer_size=2, **limits
)
for number in range(count):
    frames, actions = np.load(given / f"frames_{number}.npy"), np.load(given / f"actions_{number}.npy")
    for frame, action in zip(frames, actions, strict=True):
        dataset.add_frame({CAMERA: frame, "action": action[:4], "gripper": action[4:], "task": f"task {number % 2}"})
    dataset.save_episode(parallel_encoding=False)
dataset.finalize()
own = LeRobotDataset("some/one", root=target, video_backend="pyav")
for number in range(count):
    rows = own.meta.episodes[number]
    seen = [own[i][CAMERA].numpy() for i in range(rows["dataset_from_index"], rows["dataset_to_index"])]
    np.save(given / f"seen_{number}.npy", np.stack(seen).transpose(0, 2, 3, 1))
