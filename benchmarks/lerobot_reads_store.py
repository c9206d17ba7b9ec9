"""Does LeRobot read from a store what was written to it? Every frame, vector and task is compared.

python -m benchmarks.lerobot_reads_store PYTHON STORE [STORE ...]

PYTHON is an interpreter that has `lerobot[dataset]`.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roboalign.store import EpisodeStore

SIDE = Path(__file__).parent / "lerobot_side.py"


@dataclass(frozen=True)
class Comparison:
    """What LeRobot's reading and ours differ in."""

    frames: int
    worst_pixel: int
    """The largest difference of any channel of any pixel, in levels of 255."""
    known: dict[str, Any]
    """What LeRobot knows of the store: tasks, lengths, columns, statistics, fps."""
    cameras: tuple[str, ...]
    """The image features that were compared."""


def run_side(python: str, *arguments: str, home: Path) -> str:
    """Run `lerobot_side.py`; its standard output. `home` takes the caches of its libraries."""
    variables = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    done = subprocess.run([python, str(SIDE), *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{python} {SIDE.name} {' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def compare(python: str, folder: Path) -> Comparison:
    """Read the store at `folder` with LeRobot and with ours. Raises AssertionError where more than pixels differ."""
    store = EpisodeStore(folder)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "out"
        run_side(python, "read", str(folder.resolve()), str(out), home=Path(temporary) / "home")
        known = json.loads((out / "known.json").read_text())
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in out.glob("*.npy")}
        assert known["fps"] == store.fps
        assert known["lengths"] == [info.length for info in store.infos]
        assert all(len(arrays[camera]) == sum(known["lengths"]) for camera in store.tiles)
        start, worst = 0, 0
        for index, info in enumerate(store.infos):
            rows = slice(start, start + info.length)
            ours = store.frames(index).astype(np.int16)
            for camera, tile in store.tiles.items():
                worst = max(worst, int(np.abs(ours[:, *tile.area] - arrays[camera][rows]).max()))
            vectors = {"action": store.actions(index), "observation.state": store.state(index)}
            vectors["observation.keypoints"] = store.keypoints(index)
            vectors["observation.proprioception"] = store.read(index).proprioception
            for name, values in vectors.items():
                assert (values is None) == (name not in arrays), name
                if values is not None:
                    np.testing.assert_array_equal(values, arrays[name][rows].reshape(values.shape))
            assert set(known["tasks"][rows]) == {info.instruction}
            assert set(arrays["episode_index"][rows].tolist()) == {index}
            assert arrays["frame_index"][rows].tolist() == list(range(info.length))
            np.testing.assert_allclose(arrays["timestamp"][rows], np.arange(info.length) / store.fps, rtol=1e-6)
            start += info.length
    return Comparison(start, worst, known, tuple(store.tiles))


def main(python: str, *stores: str) -> None:
    """Compare, and say what was found."""
    for folder in stores:
        found = compare(python, Path(folder))
        print(
            f"{folder}: {found.frames} frames, {len(found.cameras)} cameras: vectors and tasks are the same; "
            f"pixels differ by at most {found.worst_pixel} of 255"
        )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
