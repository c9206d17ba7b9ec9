from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.convert import convert
from roboalign.sources.readers.reader import Damaged, LeftOut, Raw
from roboalign.sources.readers.spec import VideosSpec
from roboalign.types import Episode, UInt8

LENGTH = 9


def pictures(steps: Sequence[int]) -> Iterator[UInt8]:
    for step in steps:
        yield np.full((16, 16, 3), 10 * step, np.uint8)


def raw(**changes: Any) -> Raw:
    actions = np.arange(LENGTH * 3, dtype=np.float32).reshape(LENGTH, 3)
    base = Raw("file#0", LENGTH, pictures, {"action": actions}, "lift the cup", {"site": "lab/a/1"})
    return replace(base, **changes)


def spec(**changes: Any) -> VideosSpec:
    base = {
        "kind": "videos", "uri": "x", "fps": 10, "actions": [{"key": "action"}], "action_width": 3, "length": 2,
        "image": {"height": 16, "width": 16},
    }  # fmt: skip
    return VideosSpec.model_validate(base | changes)


def kept(raw: Raw, spec: VideosSpec) -> Episode:
    result = convert(raw, spec, "robot")
    assert isinstance(result, Episode), result
    return result


def test_an_episode_keeps_what_was_recorded() -> None:
    episode = kept(raw(), spec())
    assert (episode.id, episode.instruction, episode.policy) == ("robot/file#0", "lift the cup", "unknown")
    assert [int(frame[0, 0, 0]) for frame in episode.frames] == [10 * step for step in range(LENGTH)]
    np.testing.assert_array_equal(episode.actions, raw().columns["action"])
    assert episode.state is None


@pytest.mark.parametrize(
    ("skipped", "first", "last"),
    [("sum", [18, 22, 26], [24, 25, 26]), ("mean", [4.5, 5.5, 6.5], [24, 25, 26]), ("last", [9, 10, 11], [24, 25, 26])],
)
def test_a_stride_takes_every_nth_frame_and_joins_the_actions_between(
    skipped: str, first: list[float], last: list[float]
) -> None:
    episode = kept(raw(), spec(stride=4, actions=[{"key": "action", "skipped": skipped}]))
    assert [int(frame[0, 0, 0]) for frame in episode.frames] == [0, 40, 80]
    # Steps 0 to 3 lead to frame 1; the last frame has its own step alone.
    assert episode.actions[0].tolist() == first
    assert episode.actions[-1].tolist() == last


def test_columns_are_chosen_and_joined_in_order() -> None:
    gripper = np.linspace(0, 1, LENGTH, dtype=np.float32)
    columns = raw().columns | {"gripper": gripper}
    chosen = spec(actions=[{"key": "gripper"}, {"key": "action", "columns": [2, 0]}])
    actions = kept(raw(columns=columns), chosen).actions
    np.testing.assert_allclose(actions[3], [gripper[3], 11, 9])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"filter": {"instruction": "drop"}}, "filter.instruction"),
        ({"filter": {"without": "CUP"}}, "filter.without"),
        ({"filter": {"attributes": {"site": "^office"}}}, "filter.attributes.site"),
        ({"filter": {"longest": 8}}, "filter.longest"),
        ({"length": 10}, "length"),
    ],
)
def test_what_the_spec_does_not_want_is_left_out_by_name(changes: dict[str, Any], reason: str) -> None:
    assert convert(raw(), spec(**changes), "robot") == LeftOut(reason)


def test_a_filter_can_leave_out_what_has_no_instruction() -> None:
    chosen = spec(filter={"attributes": {"site": "^office"}})
    assert convert(raw(instruction=""), chosen, "robot") == LeftOut("filter.attributes.site")


def broken(steps: Sequence[int]) -> Iterator[UInt8]:
    yield from pictures(steps[:2])
    raise DamagedError("picture 2 cannot be decoded")


ACTIONS = np.arange(LENGTH * 3, dtype=np.float32).reshape(LENGTH, 3)
ARM = {"proprioception": [{"key": "joints"}], "proprioception_width": 3}
BAD_ACTIONS = np.zeros((LENGTH, 3), np.float32)
BAD_ACTIONS[5, 1] = np.nan


@pytest.mark.parametrize(
    ("changes", "specs", "reason"),
    [
        ({"length": 0}, {}, "empty"),
        ({"instruction": " "}, {}, "'instruction' is missing or empty"),
        ({"columns": {"other": BAD_ACTIONS}}, {}, "no action column 'action'; there is: other"),
        ({"columns": {"action": BAD_ACTIONS}}, {}, "NaN or infinite at step 5"),
        ({"columns": {"action": BAD_ACTIONS[:4]}}, {}, "not one row for each of 9 steps"),
        ({}, {"action_width": 4}, "width 3, but action_width is 4"),
        ({}, {"actions": [{"key": "action", "columns": [3]}]}, "no column 3"),
        ({}, ARM | {"proprioception_width": 3}, "no proprioception column 'joints'; there is: action"),
        ({"columns": {"action": ACTIONS, "joints": BAD_ACTIONS}}, ARM, "proprioception 'joints' is NaN or infinite at"),
        ({"columns": {"action": ACTIONS, "joints": ACTIONS[:, :2]}}, ARM, "width 2, but proprioception_width is 3"),
        ({"pictures": broken}, {}, "picture 2 cannot be decoded"),
        ({"pictures": lambda steps: pictures(steps[:-1])}, {}, "8 of its 9 pictures"),
        ({}, {"filter": {"attributes": {"place": "a"}}}, "no attribute 'place'; there is: site"),
        ({}, {"split": {"scene": "site", "scene_pattern": "^office/(.*)"}}, "scene_pattern finds nothing"),
    ],
)
def test_what_is_damaged_is_named_and_nothing_is_filled_in(
    changes: dict[str, Any], specs: dict[str, Any], reason: str
) -> None:
    result = convert(raw(**changes), spec(**specs), "robot")
    assert isinstance(result, Damaged)
    assert result.name == "file#0"
    assert reason in result.reason


def test_episodes_that_begin_alike_are_one_scene() -> None:
    other = raw(name="file#1", pictures=lambda steps: (picture + (step > 0) for step, picture in
                                                       zip(steps, pictures(steps), strict=True)))  # fmt: skip
    moved = raw(name="file#2", pictures=lambda steps: (picture + np.uint8(1) for picture in pictures(steps)))
    scenes = [kept(each, spec()).scene for each in (raw(), other, moved)]
    assert scenes[0] == scenes[1] != scenes[2]


def test_a_scene_can_be_an_attribute_or_a_part_of_it() -> None:
    far, near = raw(attributes={"site": "lab/b/1"}), raw(attributes={"site": "lab/a/2"})
    whole, part = spec(split={"scene": "site"}), spec(split={"scene": "site", "scene_pattern": "^lab/(.)/"})
    assert len({kept(each, whole).scene for each in (raw(), far, near)}) == 3
    assert kept(raw(), part).scene == kept(near, part).scene != kept(far, part).scene


def test_splitting_by_instruction_groups_by_its_words() -> None:
    by = spec(split={"by": "instruction"})
    same, other = raw(instruction="Lift the cup"), raw(instruction="push the cup")
    assert kept(raw(), by).scene == kept(same, by).scene != kept(other, by).scene


def test_proprioception_is_that_of_the_frames_that_a_stride_keeps() -> None:
    columns = {"action": ACTIONS, "joints": ACTIONS * 10, "gripper": np.arange(LENGTH, dtype=np.float32)}
    entries = [{"key": "gripper"}, {"key": "joints", "columns": [2, 0]}]
    episode = kept(raw(columns=columns), spec(stride=4, proprioception=entries, proprioception_width=3))
    assert episode.proprioception is not None
    assert episode.proprioception.tolist() == [[0, 20, 0], [4, 140, 120], [8, 260, 240]]
    assert kept(raw(columns=columns), spec()).proprioception is None


@pytest.mark.parametrize("changes", [{"proprioception": [{"key": "joints"}]}, {"proprioception_width": 3}])
def test_columns_and_width_of_the_proprioception_go_together(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="set both or neither"):
        spec(**changes)
