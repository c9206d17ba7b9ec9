"""Episodes in which the instruction changes, divided there."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import lerobot_files as arm
import numpy as np
import pytest
import rlds_files as toy
import test_npz_episodes
from episode_sets import SIDE, Recorded
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import only, read_all

from roboalign.sources.inspection.command import inspect_spec
from roboalign.sources.readers.reader import SEVERAL_INSTRUCTIONS, RawEpisode
from roboalign.sources.readers.subtasks import split_by_instruction

SPLIT = {"instruction_changes": "split"}


def two_tasks(plan: arm.Plan) -> None:
    """The second episode, of five frames, has two tasks, and so has the third, of seven."""
    plan["data"][1]["task_index"] = np.asarray([1, 1, 1, 0, 0])
    plan["data"][2]["task_index"] = np.asarray([0, 1, 1, 1, 1, 1, 1])


@pytest.mark.parametrize(("version", "kind"), [(2, "video"), (3, "video"), (3, "image")])
def test_each_stretch_is_an_episode_of_its_own(tmp_path: Path, version: int, kind: str) -> None:
    arm.write(tmp_path / "data", version, kind, two_tasks)
    report, store = arm.made(tmp_path / "data", tmp_path, **SPLIT)
    names = [f"arm/episode_{name}" for name in ("000000", "000001#1", "000001#2", "000002#2")]
    assert [info.id for info in store.infos] == names
    assert [info.instruction for info in store.infos] == [arm.TASKS[task] for task in (0, 1, 0, 1)]
    # Of the third episode, the first stretch has a single frame.
    assert (report.kept, report.left_out, report.damaged, report.warnings) == (4, (("length", 1),), (), ())
    for number, (episode, frames) in enumerate(
        [(0, slice(0, 6)), (1, slice(0, 3)), (1, slice(3, 5)), (2, slice(1, 7))]
    ):
        assert arm.close(store.frames(number), arm.frames(episode)[frames], kind)
        columns = arm.columns(episode)
        wanted = np.column_stack([np.stack(columns["action"]), columns["gripper"]])[frames]
        np.testing.assert_allclose(store.actions(number), wanted, rtol=1e-6)


def test_by_default_the_first_instruction_is_taken_and_that_is_counted(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3, "image", two_tasks)
    report, store = arm.made(tmp_path / "data", tmp_path)
    assert report.warnings == ((SEVERAL_INSTRUCTIONS, 2),)
    assert [info.instruction for info in store.infos] == [arm.TASKS[task] for task in (0, 1, 0)]


def test_stretches_of_one_recording_are_in_one_split(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3, "image", two_tasks)
    _, divided = arm.made(tmp_path / "data", tmp_path / "a", **SPLIT)
    _, whole = arm.made(tmp_path / "data", tmp_path / "b")
    scenes = [info.scene for info in divided.infos]
    assert scenes[1] == scenes[2]
    # They are also those of the episodes that were not divided.
    assert [scenes[0], scenes[1], scenes[3]] == [info.scene for info in whole.infos]


def test_rlds_and_npz_have_an_instruction_a_step(tmp_path: Path) -> None:
    toy.write(tmp_path / "rlds", [toy.record(2)])
    spec = toy.SPEC.validate_python(toy.spec(tmp_path / "rlds", **SPLIT))
    episodes, damaged, left_out = read_all(spec, tmp_path)
    assert damaged == []
    assert [(each.id, each.instruction, len(each.frames)) for each in episodes] == [
        ("source/train-00000-of-00001#0#2", "later", 6)
    ]
    assert [each.reason for each in left_out] == ["length"]
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)
    recorded = [Recorded({"image": frames}, rng.normal(size=(6, 2)).astype(np.float32), "")] * 2
    words = np.array(["open it", "open it", "close it", "close it", "close it", "open it"])
    test_npz_episodes.write(tmp_path / "npz", recorded, lambda arrays: arrays.update(instruction=words))
    chosen = test_npz_episodes.spec(tmp_path / "npz", 2, tolerance=1.0, **SPLIT)
    episodes, damaged, left_out = read_all(chosen, tmp_path)
    assert [(each.id.rpartition("_")[2], each.instruction) for each in episodes] == [
        ("00000001.npz#1", "open it"), ("00000001.npz#2", "close it"),
    ]  # fmt: skip
    assert only(damaged).name == "train_eps_00000000.npz"
    assert len(left_out) == 1
    np.testing.assert_array_equal(episodes[1].frames, frames[2:5])
    # A pattern looks in the words of each stretch.
    stated = {"field": "instruction", "pattern": "(?P<verb>open|close)"}
    chosen = test_npz_episodes.spec(tmp_path / "npz", 2, tolerance=1.0, instruction=stated, **SPLIT)
    assert [each.instruction for each in read_all(chosen, tmp_path)[0]] == ["open", "close"]


def test_a_stretch_without_an_instruction_is_damaged_alone(tmp_path: Path) -> None:
    def spoil(plan: arm.Plan) -> None:
        plan["data"][2]["task_index"] = np.asarray([0, 0, 9, 9, 9, 1, 1])

    arm.write(tmp_path / "data", 3, "image", spoil)
    episodes, damaged, _ = read_all(arm.spec(tmp_path / "data", **SPLIT), tmp_path)
    assert [each.id.partition("_")[2] for each in episodes] == ["000000", "000001", "000002#1", "000002#3"]
    assert only(damaged).name == "episode_000002#2"
    assert only(damaged).reason.startswith("its instruction 'task' is missing or empty")


def test_inspect_counts_stretches_as_the_stage_does(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3, "image", two_tasks)
    found = inspect_spec(arm.spec(tmp_path / "data", **SPLIT), "arm", 0, tmp_path)
    report, store = arm.made(tmp_path / "data", tmp_path, **SPLIT)
    assert found.preview.report == report
    assert found.summary.groups == len({info.scene for info in store.infos}) == 3


def raw_of(words: list[str], rng: np.random.Generator) -> RawEpisode:
    images = rng.integers(0, 256, (len(words), 4, 4, 3), np.uint8)
    columns: dict[str, Any] = {"action": rng.normal(size=(len(words), 2)).astype(np.float32)}
    return RawEpisode(
        name="x", length=len(words), images=lambda steps: (images[step] for step in steps), columns=columns,
        instruction=words[0], instructions=words, task="the whole episode", warnings=[SEVERAL_INSTRUCTIONS],
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.sampled_from("abc"), min_size=1, max_size=20), seed=st.integers(0, 99))
def test_stretches_are_the_episode_divided(words: list[str], seed: int) -> None:
    raw = raw_of(words, np.random.default_rng(seed))
    stretches = list(split_by_instruction(raw))
    assert [word for each in stretches for word in [each.instruction] * each.length] == words
    if len(stretches) == 1:
        assert stretches[0] is raw
        return
    assert [each.name for each in stretches] == [f"x#{number}" for number in range(1, len(stretches) + 1)]
    assert all(a.instruction != b.instruction for a, b in pairwise(stretches))
    assert all(each.recording is raw and each.warnings == [] for each in stretches)
    whole = np.stack(list(raw.images(range(raw.length))))
    parts = [np.stack(list(each.images(range(each.length)))) for each in stretches]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(np.concatenate([each.columns["action"] for each in stretches]), raw.columns["action"])
