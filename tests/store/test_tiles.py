"""Frames of several cameras: cells, and stores that keep each camera by itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from store_tools import enlarged

from roboalign.io import digest
from roboalign.store import EpisodeStore, EpisodeWriter, StorageSpec, StoreError, merge
from roboalign.store.spec import ImageFormat, TileLayout, camera_features, divide_frame
from roboalign.types import Episode

LAYOUTS: tuple[TileLayout, ...] = ("row", "column", "grid")


@given(st.integers(1, 9), st.sampled_from(LAYOUTS), st.integers(5, 80), st.integers(5, 80))
def test_cells_are_even_and_cover_the_frame_once(count: int, layout: TileLayout, high: int, wide: int) -> None:
    height, width = 4 * high, 4 * wide
    covered = np.zeros((height, width), int)
    tiles = divide_frame(count, layout, height, width)
    assert len(tiles) == count
    for tile in tiles:
        assert tile.height > 0
        assert tile.width > 0
        assert tile.height % 2 == tile.width % 2 == 0
        assert covered[tile.area].shape == (tile.height, tile.width)
        covered[tile.area] += 1
    assert covered.max() == 1
    assert max(t.width for t in tiles) - min(t.width for t in tiles) <= 2
    assert max(t.height for t in tiles) - min(t.height for t in tiles) <= 2
    # Only a grid whose last row is not full leaves something.
    assert covered.min() == 1 or layout == "grid"


@pytest.mark.parametrize(
    ("cameras", "names"),
    [
        (["observation.images.top", "observation.images.wrist"], ["top", "wrist"]),
        (["observation/image_0", "obs/agentview_rgb"], ["image_0", "agentview_rgb"]),
        (["left/rgb", "right/rgb"], ["left_rgb", "right_rgb"]),
        (["0", "1"], ["0", "1"]),
    ],
)
def test_features_are_named_by_their_cameras(cameras: list[str], names: list[str]) -> None:
    assert camera_features(cameras) == tuple(f"observation.images.{name}" for name in names)


NAMES = camera_features(["left", "right"])
CELLS = dict(zip(NAMES, divide_frame(2, "row", 32, 32), strict=True))


def write(folder: Path, episodes: list[Episode], storage: StorageSpec) -> Path:
    cells = dict(zip(NAMES, divide_frame(2, "row", *episodes[0].frames.shape[1:3]), strict=True))
    with EpisodeWriter(folder, fps=10, storage=storage, cameras=cells) as writer:
        for episode in episodes:
            writer.add(episode)
    return folder


@pytest.mark.parametrize("kind", ["png", "h264"])
def test_merged_shards_have_the_bytes_of_the_whole(
    tmp_path: Path, toy_episodes: list[Episode], kind: ImageFormat
) -> None:
    storage = StorageSpec(kind=kind)
    # H.264 of images with sides below 64 pixels does not always have the same bytes.
    episodes = [replace(each, frames=enlarged(each.frames, 4)) for each in toy_episodes[:6]]
    whole = write(tmp_path / "a/store", episodes, storage)
    shards = [write(tmp_path / f"shard-{n}", episodes[n : n + 3], storage) for n in (0, 3)]
    merge(tmp_path / "b/store", [(shards[n // 3], n % 3, None) for n in range(6)])
    assert digest([tmp_path / "b/store"]) == digest([whole])
    if kind == "png":
        np.testing.assert_array_equal(EpisodeStore(whole).frames(4), episodes[4].frames)


def test_statistics_are_those_of_each_camera(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    store = EpisodeStore(write(tmp_path / "store", toy_episodes[:1], StorageSpec()))
    for name, tile in CELLS.items():
        pixels = toy_episodes[0].frames[:, *tile.area].reshape(-1, 3) / 255
        np.testing.assert_allclose(np.ravel(store.statistics(0)[name]["mean"]), pixels.mean(0), atol=1e-9)


def test_a_cell_with_an_odd_side_is_no_video(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    cells = dict(zip(CELLS, divide_frame(2, "row", 31, 32), strict=True))
    odd = replace(toy_episodes[0], frames=toy_episodes[0].frames[:, :31])
    writer = EpisodeWriter(tmp_path / "store", fps=10, storage=StorageSpec(kind="h264"), cameras=cells)
    reason = "frames of 31x16 cannot be stored as h264 video, which needs even sides"
    with pytest.raises(StoreError, match=reason), writer:
        writer.add(odd)


@pytest.mark.parametrize(
    "change",
    [
        lambda info: info.update({"cell.left": 20}),
        lambda info: info.update({"cell.top": -1}),
        lambda info: info.pop("cell.width"),
        lambda info: info.update({"cell.height": None}),
    ],
)
def test_false_cells_are_refused(
    tmp_path: Path, toy_episodes: list[Episode], change: Callable[[dict[str, Any]], Any]
) -> None:
    folder = write(tmp_path / "store", toy_episodes[:1], StorageSpec())
    info = json.loads((folder / "meta/info.json").read_text())
    change(info["features"]["observation.images.right"]["info"])
    (folder / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(StoreError, match="is not a readable episode store"):
        EpisodeStore(folder)
