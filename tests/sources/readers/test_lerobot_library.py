"""What LeRobot's own library writes is read; only where its interpreter is named, for it is a large package."""

import os
import subprocess
from pathlib import Path

import lerobot_files as arm
import numpy as np
import pytest

PYTHON = os.environ.get("ROBOALIGN_LEROBOT_PYTHON", "")

pytestmark = pytest.mark.skipif(not PYTHON, reason="ROBOALIGN_LEROBOT_PYTHON names no interpreter that has lerobot")


@pytest.mark.parametrize("kind", ["video", "image"])
def test_what_lerobot_writes_is_read(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(5):
        length = 20 + 7 * number
        y, x = np.mgrid[:64, :96]
        base = 4 * np.arange(length)[:, None, None] + y + 10 * number
        np.save(tmp_path / f"frames_{number}.npy", np.stack([base, base // 2 + x, 0 * base + x], -1).astype(np.uint8))
        np.save(tmp_path / f"actions_{number}.npy", rng.normal(size=(length, 5)).astype(np.float32))
    script = Path(__file__).with_name("lerobot_writes.py")
    command = [PYTHON, str(script), str(tmp_path / "data"), kind, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    held = tmp_path / "data" / ("videos" if kind == "video" else "data")
    assert len([path for path in held.rglob("*") if path.is_file()]) > 1
    found = arm.sound(tmp_path / "data", image={"height": 64, "width": 96})
    assert len(found) == 5
    for number, raw in enumerate(found):
        actions = np.load(tmp_path / f"actions_{number}.npy")
        assert np.array_equal(raw.columns["action"], actions[:, :4])
        assert np.array_equal(raw.columns["gripper"], actions[:, 4:])
        assert raw.instruction == f"task {number % 2}"
        frames = np.load(tmp_path / f"frames_{number}.npy")
        images = np.stack(list(raw.images(range(raw.length))))
        # LeRobot decodes the same video to the same images, but for the rounding of colours.
        seen = np.load(tmp_path / f"seen_{number}.npy") * 255
        assert np.abs(images - seen).max() <= 2
        assert np.abs(images - frames.astype(int)).mean((1, 2, 3)).max() < 3
        assert np.array_equal(np.stack(list(raw.images([5, 11]))), images[[5, 11]])
