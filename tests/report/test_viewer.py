"""The files of the viewer hold the frames that its content says they hold."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from report_toys import toy_showcases

from roboalign.report import viewer
from roboalign.report.inputs import Inputs
from roboalign.report.viewer import clip_viewer, file_name, rollouts, shrink

EMPTY = Inputs({}, {}, {}, {})


def test_each_clip_is_a_file_whose_tiles_are_its_frames() -> None:
    showcases = toy_showcases()
    block = clip_viewer(showcases, EMPTY)
    assert block is not None
    clips = [clip for episode in block.content["episodes"] for clip in episode["clips"]]
    assert {clip["file"] for clip in clips} == set(block.files)
    clip, column = clips[1], showcases[0].columns[1]
    image = np.asarray(Image.open(io.BytesIO(block.files[clip["file"]])).convert("RGB")).astype(int)
    for number in range(clip["frames"]):
        top, left = number // clip["tiles"] * clip["height"], number % clip["tiles"] * clip["width"]
        tile = image[top : top + clip["height"], left : left + clip["width"]]
        assert np.abs(tile - column.frames[number].astype(int)).mean() < 12
    assert clip["scores"]["total"] == pytest.approx(column.scores["total"], abs=1e-3)


def test_what_does_not_fit_the_budget_is_left_out_and_one_episode_always_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewer, "BUDGET", 1)
    block = clip_viewer(toy_showcases(), EMPTY)
    assert block is not None
    assert [episode["cases"]["total"] for episode in block.content["episodes"]] == ["best"]
    assert len(block.files) == len(toy_showcases()[0].columns)


def test_large_frames_are_reduced_by_averaging() -> None:
    frames = np.zeros((2, 8, 12, 3), np.uint8)
    frames[:, ::2] = 100
    assert shrink(frames, 8) is frames
    reduced = shrink(frames, 4)
    assert reduced.shape == (2, 4, 6, 3)
    assert (reduced == 50).all()
    assert shrink(frames, 3).shape == (2, 2, 4, 3)


def test_names_of_episodes_become_names_of_files() -> None:
    assert file_name("fetch/000012#1") == "fetch_000012_1"
    assert file_name("../x") == "_x"
    assert file_name("..") == "_"


def test_episodes_of_equal_file_names_keep_their_own_files() -> None:
    first, second, *_ = toy_showcases()
    block = clip_viewer([replace(first, episode="a/b"), replace(second, episode="a_b")], EMPTY)
    assert block is not None
    assert len(block.files) == 2 * len(first.columns)


def test_without_clips_there_is_no_section() -> None:
    assert not rollouts(EMPTY).blocks
