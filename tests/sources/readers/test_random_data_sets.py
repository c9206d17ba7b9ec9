"""Every reader: random valid data sets come back equal, with all their cameras, and random single faults are named."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from episode_sets import SIDE, Recorded, assert_come_back, episode_sets, skips, strides
from episode_writers import WRITERS, write_source
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import read_all

FORMATS = pytest.mark.parametrize("form", list(WRITERS))


def side_by_side(recorded: list[Recorded]) -> list[Recorded]:
    """The episodes with one camera `all`, which shows the others beside each other."""
    return [replace(each, frames={"all": np.concatenate(list(each.frames.values()), axis=2)}) for each in recorded]


@FORMATS
@settings(max_examples=4, deadline=None)
@given(recorded=episode_sets(6), stride=strides, skipped=skips)
def test_random_data_sets_come_back_with_all_cameras(
    form: str, recorded: list[Recorded], stride: int, skipped: str
) -> None:
    with TemporaryDirectory() as place:
        spec = write_source(form, Path(place) / "data", recorded, skipped, stride=stride)
        assert_come_back(spec, side_by_side(recorded), "all", Path(place))


def three_episodes(cameras: int) -> list[Recorded]:
    rng = np.random.default_rng(0)
    return [
        Recorded(
            {f"cam_{n}": rng.integers(0, 256, (length, SIDE, SIDE, 3), np.uint8) for n in range(cameras)},
            rng.normal(size=(length, 2)).astype(np.float32),
            f"task {length}",
        )
        for length in (6, 5, 7)
    ]


@FORMATS
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_a_random_fault_damages_its_episode_alone_and_is_named(form: str, data: st.DataObject) -> None:
    recorded = three_episodes(data.draw(st.integers(1, 3), "cameras"))
    number = data.draw(st.integers(0, 2), "episode")
    fault = data.draw(st.sampled_from(["NaN", "last frame", "camera"]), "fault")
    spoilt = recorded[number]
    camera = data.draw(st.sampled_from(sorted(spoilt.frames)), "camera")
    if fault == "NaN":
        actions = spoilt.actions.copy()
        actions[data.draw(st.integers(0, len(actions) - 1)), 1] = np.nan
        spoilt = replace(spoilt, actions=actions)
    elif fault == "last frame":
        spoilt = replace(spoilt, frames=spoilt.frames | {camera: spoilt.frames[camera][:-1]})
    else:
        camera = max(spoilt.frames)
        spoilt = replace(spoilt, frames={name: each for name, each in spoilt.frames.items() if name != camera})
    # The first episode is whole: it tells the writers which cameras there are.
    written = [recorded[0], *(spoilt if place == number else each for place, each in enumerate(recorded))]
    with TemporaryDirectory() as place:
        spec = write_source(form, Path(place) / "data", written)
        episodes, damaged, left_out = read_all(spec, Path(place))
        assert (len(episodes), len(damaged), left_out) == (3, 1, [])
        # Ctrl-World's cameras have no names but numbers.
        names = ["NaN"] if fault == "NaN" else [camera, f"'{camera[4:]}'", f"/{camera[4:]}.mp4", "image at step"]
        assert any(name in damaged[0].reason for name in names), damaged[0].reason
