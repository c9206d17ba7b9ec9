"""Random episodes for the property tests of the readers, and what must come back of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from reading import read_all

from roboalign.sources.readers.reader import Damaged, LeftOut
from roboalign.sources.spec import RecordedSpec
from roboalign.types import Episode

SIDE = 16
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Recorded:
    """One episode as it is written."""

    frames: dict[str, Array]
    """By camera, (T, 16, 16, 3)."""
    actions: Array
    """(T, A), float32."""
    instruction: str

    @property
    def length(self) -> int:
        return len(self.actions)


@st.composite
def episode_sets(draw: st.DrawFn, most: int = 9) -> list[Recorded]:
    """One to three episodes with one to three cameras and one to five action dimensions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cameras = [f"cam_{number}" for number in range(draw(st.integers(1, 3)))]
    width = draw(st.integers(1, 5))
    words = st.text(st.characters(categories=("Ll", "Lu"), max_codepoint=0x17F), min_size=1, max_size=8)
    result = []
    for _ in range(draw(st.integers(1, 3))):
        length = draw(st.integers(2, most))
        frames = {name: rng.integers(0, 256, (length, SIDE, SIDE, 3), np.uint8) for name in cameras}
        actions = rng.normal(size=(length, width)).astype(np.float32)
        result.append(Recorded(frames, actions, " ".join(draw(st.lists(words, min_size=1, max_size=4)))))
    return result


strides = st.integers(1, 3)
skips = st.sampled_from(["sum", "mean", "last"])


def expected_actions(actions: Array, stride: int, skipped: str) -> Array:
    """What a stride makes of actions, by definition."""
    groups = [actions[start : start + stride].astype(np.float64) for start in range(0, len(actions), stride)]
    match skipped:
        case "sum":
            return np.stack([group.sum(0) for group in groups])
        case "mean":
            return np.stack([group.mean(0) for group in groups])
        case _:
            return np.stack([group[-1] for group in groups])


def assert_come_back(spec: RecordedSpec, recorded: list[Recorded], camera: str, cache: Path) -> None:
    """Every recorded episode that is long enough comes back equal, in order, and nothing is damaged."""
    episodes, damaged, left_out = read_all(spec, cache)
    assert damaged == []
    kept = [each for each in recorded if -(-each.length // spec.stride) >= spec.length]
    assert len(left_out) == len(recorded) - len(kept)
    assert len(episodes) == len(kept)
    for episode, each in zip(episodes, kept, strict=True):
        np.testing.assert_array_equal(episode.frames, each.frames[camera][:: spec.stride])
        wanted = expected_actions(each.actions, spec.stride, spec.actions[0].skipped)
        np.testing.assert_allclose(episode.actions, wanted, rtol=1e-4, atol=1e-5)
        assert episode.instruction == each.instruction


def only_damage(found: tuple[list[Episode], list[Damaged], list[LeftOut]], sound: int) -> str:
    """The reason of the only damage; the other episodes are read."""
    episodes, damaged, left_out = found
    assert (len(episodes), len(damaged), left_out) == (sound, 1, [])
    return damaged[0].reason
