"""LeRobot reads the store. The layout it needs is pinned here; its own loader is asked where it is at hand:

ROBOALIGN_LEROBOT_PYTHON=/path/to/python pytest tests/store/test_store_lerobot.py
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from store_tools import enlarged, write

from benchmarks.lerobot_reads_store import compare
from roboalign.store import EpisodeStore, StorageSpec
from roboalign.store.spec import ImageFormat
from roboalign.types import Episode

PYTHON = os.environ.get("ROBOALIGN_LEROBOT_PYTHON")
WITH_LEROBOT = pytest.mark.skipif(
    PYTHON is None, reason="ROBOALIGN_LEROBOT_PYTHON names no interpreter that has lerobot[dataset]"
)


@WITH_LEROBOT
@pytest.mark.parametrize("kind", ["png", "h264", "av1"])
@pytest.mark.parametrize("fps", [20, 12.5])
def test_lerobot_reads_the_same(tmp_path: Path, toy_episodes: list[Episode], kind: ImageFormat, fps: float) -> None:
    assert PYTHON is not None
    folder = write(tmp_path / "store", toy_episodes[:4], fps=fps, storage=StorageSpec(kind=kind))
    found = compare(PYTHON, folder)
    # LeRobot may bring another FFmpeg, which may round the conversion to RGB in another way.
    assert found.worst_pixel <= (0 if kind == "png" else 2)
    assert found.frames == 48
    assert {"id", "source", "task", "policy", "scene", "split", "success", "data/row_group"} <= set(
        found.known["columns"]
    )
    assert found.known["statistics"]["observation.images.main"]["count"] == [48]


@WITH_LEROBOT
def test_lerobot_reads_bare_episodes_of_one_action(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    assert PYTHON is not None
    bare = [replace(e, actions=e.actions[:, :1], state=None, keypoints=None) for e in toy_episodes[:2]]
    assert compare(PYTHON, write(tmp_path / "store", bare)).worst_pixel == 0


def test_the_information_is_what_lerobot_asks_for(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    info = json.loads((write(tmp_path / "store", toy_episodes) / "meta/info.json").read_text())
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "toy",
        "total_episodes": 18,
        "total_frames": 18 * 12,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": "0:18"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
    }
    assert isinstance(info["fps"], int)
    assert list(features) == sorted(features)
    assert features["observation.images.main"] == {
        "dtype": "image",
        "shape": [32, 32, 3],
        "names": ["height", "width", "channels"],
    }
    assert features["action"]["dtype"] == "float32"
    assert features["action"]["names"] == ["action_0", "action_1", "action_2", "action_3"]
    assert features["observation.state"]["shape"] == [14]
    assert features["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        assert features[name] == {"dtype": "int64", "shape": [1], "names": None}


def test_frames_and_episodes_are_numbered_as_lerobot_does(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    folder = write(tmp_path / "store", toy_episodes[:3])
    rows = pq.read_table(folder / "data/chunk-000/file-000.parquet")
    assert rows["index"].to_pylist() == list(range(36))
    assert rows["frame_index"].to_pylist() == list(range(12)) * 3
    assert rows["episode_index"].to_pylist() == [0] * 12 + [1] * 12 + [2] * 12
    assert rows["task_index"].to_pylist() == [0] * 12 + [1] * 12 + [0] * 12
    np.testing.assert_allclose(rows["timestamp"].to_pylist()[:12], np.arange(12) / 10, rtol=1e-6)
    described = json.loads(rows.schema.metadata[b"huggingface"])["info"]["features"]
    assert described["observation.images.main"] == {"_type": "Image"}
    episodes = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [e["dataset_from_index"] for e in episodes] == [0, 12, 24]
    assert [e["dataset_to_index"] for e in episodes] == [12, 24, 36]
    assert episodes[1]["tasks"] == [toy_episodes[1].instruction]
    assert {e["data/chunk_index"] for e in episodes} == {e["data/file_index"] for e in episodes} == {0}
    assert {e["meta/episodes/file_index"] for e in episodes} == {0}


def test_tasks_are_indexed_by_their_text(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    table = pq.read_table(write(tmp_path / "store", toy_episodes) / "meta/tasks.parquet")
    assert table.to_pydict() == {
        "task_index": [0, 1],
        "task": [toy_episodes[0].instruction, toy_episodes[1].instruction],
    }
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_video_has_its_places_in_the_episodes(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    folder = write(tmp_path / "store", toy_episodes[:3], storage=StorageSpec(kind="h264", gop=3))
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    video = info["features"]["observation.images.main"]
    assert video["dtype"] == "video"
    assert {"video.codec": "h264", "video.pix_fmt": "yuv420p", "video.fps": 10, "video.g": 3}.items() <= video[
        "info"
    ].items()
    assert "observation.images.main" not in pq.read_schema(folder / "data/chunk-000/file-000.parquet").names
    (row, _, last) = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    key = "videos/observation.images.main"
    assert (row[f"{key}/from_timestamp"], row[f"{key}/to_timestamp"]) == (0.0, 1.2)
    assert (last[f"{key}/from_timestamp"], last[f"{key}/to_timestamp"]) == (2.4, 3.6)
    assert row[f"{key}/chunk_index"] == row[f"{key}/file_index"] == 0
    assert len(row[f"{key}/crc32"]) == 12


def test_statistics_are_those_of_the_data(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    folder = write(tmp_path / "store", toy_episodes)
    found = json.loads((folder / "meta/stats.json").read_text())
    actions = np.concatenate([e.actions for e in toy_episodes]).astype(float)
    for name, expected in (
        ("min", actions.min(0)),
        ("max", actions.max(0)),
        ("mean", actions.mean(0)),
        ("std", actions.std(0)),
    ):
        np.testing.assert_allclose(found["action"][name], expected, atol=1e-9)
    assert found["action"]["count"] == [18 * 12]
    pixels = np.concatenate([e.frames for e in toy_episodes]).reshape(-1, 3) / 255
    image = found["observation.images.main"]
    assert np.shape(image["mean"]) == (3, 1, 1)
    np.testing.assert_allclose(np.ravel(image["mean"]), pixels.mean(0), atol=1e-9)
    np.testing.assert_allclose(np.ravel(image["std"]), pixels.std(0), atol=1e-9)
    assert np.ravel(image["max"]).tolist() == pixels.max(0).tolist()
    assert found["index"]["max"] == [18 * 12 - 1]
    one = EpisodeStore(folder).statistics(3)
    np.testing.assert_allclose(one["action"]["q50"], np.median(toy_episodes[3].actions, 0), atol=1e-6)
    frame = toy_episodes[3].frames.reshape(-1, 3)
    quantile = np.quantile(frame, 0.9, axis=0, method="inverted_cdf") / 255
    np.testing.assert_allclose(np.ravel(one["observation.images.main"]["q90"]), quantile)


def test_enlarged_frames_become_video_by_themselves(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    large = [replace(e, frames=enlarged(e.frames, 4)) for e in toy_episodes[:1]]
    assert EpisodeStore(write(tmp_path / "large", large)).video
    assert not EpisodeStore(write(tmp_path / "small", toy_episodes[:1])).video
