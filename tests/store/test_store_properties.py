"""What holds for any small episodes: they come back as they were, and the same ones give the same bytes."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import arrays
from store_tools import write

from roboalign.io import digest
from roboalign.store import EpisodeStore
from roboalign.types import KEYPOINT_NAMES, STATE_NAMES, Episode

NUMBERS = st.floats(-1e6, 1e6, width=32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def several(draw: st.DrawFn) -> list[Episode]:
    """One to four episodes that fit into one store."""
    height, width, actions = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    with_state, with_points = draw(st.booleans()), draw(st.booleans())
    episodes = []
    for number in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 5))
        episodes.append(
            Episode(
                id=f"{draw(TEXT)}/{number}",
                source=draw(TEXT),
                task=draw(TEXT),
                instruction=draw(TEXT),
                policy=draw(st.sampled_from(["expert", "random", "unknown"])),
                scene=draw(TEXT),
                split=draw(st.sampled_from(["train", "validation", "test"])),
                frames=draw(arrays(np.uint8, (length, height, width, 3))),
                actions=draw(arrays(np.float32, (length, actions), elements=NUMBERS)),
                state=draw(arrays(np.float32, (length, len(STATE_NAMES)), elements=NUMBERS)) if with_state else None,
                keypoints=draw(arrays(np.float32, (length, len(KEYPOINT_NAMES)), elements=NUMBERS))
                if with_points
                else None,
            )
        )
    return episodes


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(several(), st.sampled_from([1.0, 12.5, 80 / 3]))
def test_episodes_come_back_and_bytes_are_the_same(episodes: list[Episode], fps: float) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        first = write(Path(temporary) / "a/store", episodes, fps=fps)
        assert digest([first]) == digest([write(Path(temporary) / "b/store", episodes, fps=fps)])
        store = EpisodeStore(first)
        assert store.fps == fps
        assert len(store) == len(episodes)
        for index, episode in enumerate(episodes):
            back = store.read(index)
            for name in Episode.__dataclass_fields__:
                given_value, value = getattr(episode, name), getattr(back, name)
                if isinstance(given_value, np.ndarray):
                    assert value.dtype == given_value.dtype
                    np.testing.assert_array_equal(value, given_value)
                else:
                    assert value == given_value
            info = store.infos[index]
            assert (info.length, info.success) == (len(episode.frames), episode.success)
            np.testing.assert_array_equal(store.actions(index), episode.actions)
            for found, expected in ((store.state(index), episode.state), (store.keypoints(index), episode.keypoints)):
                assert (found is None) == (expected is None)
                if found is not None:
                    np.testing.assert_array_equal(found, expected)
