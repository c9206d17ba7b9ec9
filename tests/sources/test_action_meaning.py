"""What actions mean is told by names, by states and by values, and a stride treats them accordingly."""

import json
from pathlib import Path
from typing import Any

import lerobot_files
import numpy as np
import pyarrow.parquet as pq
import pytest
import test_videos
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.sources.inspection.action_meaning import (
    SKIPPED,
    DimensionMeaning,
    EpisodeVectors,
    classify_dimensions,
    decide_meanings,
    explain,
    meaning_of_name,
)
from roboalign.sources.inspection.command import inspect_spec
from roboalign.sources.inspection.proposal import divide_column, propose
from roboalign.sources.readers.lerobot_meta import dimension_names
from roboalign.types import Float32

Rng = np.random.Generator


def reach(rng: Rng, steps: int, width: int) -> Float32:
    """Absolute joint targets in degrees: smooth movements between postures away from zero."""
    stops = rng.uniform(-60, 60, (4, width)) + np.linspace(-90, 90, width)
    shares = np.linspace(0, 3, steps)
    place = np.minimum(shares.astype(int), 2)
    mix = (1 - np.cos(np.pi * (shares - place))) / 2
    return np.asarray(stops[place] + mix[:, None] * (stops[place + 1] - stops[place]), np.float32)


def jerky(rng: Rng, steps: int, width: int) -> Float32:
    """Displacements, as a person commands them: smoothed noise around zero."""
    noise = rng.normal(size=(steps + 4, width))
    return np.stack([noise[t : t + 5].mean(0) for t in range(steps)]).astype(np.float32)


def meanings(actions: list[Float32], states: list[Float32] | None = None, names: list[str] | None = None) -> set[str]:
    width = actions[0].shape[1]
    episodes = [
        EpisodeVectors(each, {} if states is None else {"observation.state": states[number]})
        for number, each in enumerate(actions)
    ]
    return {each.meaning for each in classify_dimensions(episodes, ["action"] * width, names or [""] * width)}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(60, 200), count=st.integers(2, 5))
def test_targets_and_displacements_are_told_apart_without_names(seed: int, steps: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    targets = [reach(rng, steps, 6) for _ in range(count)]
    assert meanings(targets) == {"position"}
    assert meanings([jerky(rng, steps, 6) for _ in range(count)]) == {"displacement"}
    assert meanings([rng.uniform(-1, 1, (steps, 6)).astype(np.float32) for _ in range(count)]) == {"displacement"}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(30, 80), lag=st.integers(0, 1), noise=st.floats(0, 0.05))
def test_actions_that_follow_the_state_are_targets_whatever_their_course(
    seed: int, steps: int, lag: int, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    states = [np.cumsum(rng.normal(size=(steps, 3)), 0).astype(np.float32) for _ in range(3)]
    # A command is reached one step later, or at once.
    targets = [np.roll(each, -1, 0) if lag else each for each in states]
    for each in targets:
        each[-1] = each[-2]
    spread = noise * states[0].std()
    targets = [(each + rng.normal(scale=spread + 1e-9, size=each.shape)).astype(np.float32) for each in targets]
    assert meanings(targets, states) == {"position"}
    moves = [np.diff(each, axis=0, append=each[-1:]) for each in states]
    assert meanings(moves, states) == {"displacement"}


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("shoulder_pan.pos", "position"),
        ("gripper.pos", "switch"),
        ("action.left_gripper", "switch"),
        ("action.joint_velocity", "velocity"),
        ("action/rotation_delta", "displacement"),
        ("rel_actions", "displacement"),
        ("eef_delta_pos", "displacement"),
        ("action_dict/cartesian_position", "position"),
        ("action.eef_pose", "position"),
        ("world_state/target", "position"),
        ("motor_1", None),
        ("model", None),
    ],
)
def test_names_tell(name: str, meaning: str | None) -> None:
    found = meaning_of_name(name)
    assert (found and found.meaning) == meaning


def test_switches_are_told_by_their_values_and_by_where_they_rest() -> None:
    rng = np.random.default_rng(0)
    ramp = np.concatenate([np.zeros(40), np.linspace(0, 1, 5), np.ones(40), np.linspace(1, 0, 5), np.zeros(20)])
    actions = [np.stack([rng.normal(size=110), rng.integers(0, 2, 110), ramp], 1).astype(np.float32) for _ in range(3)]
    found = classify_dimensions([EpisodeVectors(each, {}) for each in actions], ["a"] * 3, [""] * 3)
    assert [each.meaning for each in found] == ["displacement", "switch", "switch"]
    assert found[1].reason == "it has two values"


def test_a_dimension_of_its_own_does_not_make_its_column_absolute() -> None:
    target = DimensionMeaning("position", "small steps")
    assert [each.meaning for each in decide_meanings([None, None, target], ["a"] * 3)] == ["displacement"] * 3
    assert [each.meaning for each in decide_meanings([None, target, target], ["a"] * 3)] == ["position"] * 3
    assert [each.meaning for each in decide_meanings([None, target], ["a", "b"])] == ["displacement", "position"]


def test_the_entries_of_a_column() -> None:
    assert divide_column("action", ["sum"] * 3) == [{"key": "action"}]
    assert divide_column("action/gripper", ["last"]) == [{"key": "action/gripper", "skipped": "last"}]
    assert divide_column("a", ["sum", "last", "last", "mean"]) == [
        {"key": "a", "columns": [0]},
        {"key": "a", "columns": [1, 2], "skipped": "last"},
        {"key": "a", "columns": [3], "skipped": "mean"},
    ]
    assert SKIPPED["velocity"] == "mean"


def test_reasons_in_words() -> None:
    found = [DimensionMeaning("position", f"it follows s[{n}]", certain=True) for n in range(4)]
    assert explain([*found, DimensionMeaning("displacement", "")], list("abcde")) == [
        "a to d: absolute positions (it follows s[0]; it follows s[1] and 2 more)"
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ("a", "b")),
        ({"motors": ["a", "b"]}, ("a", "b")),
        ({"left": ["a"], "right": ["b"]}, ("a", "b")),
        (None, ()),
        (["a"], ()),
        ([["a"], ["b"]], ()),
        ({"motors": "ab"}, ()),
        ({"motors": 3}, ()),
    ],
)
def test_the_names_of_lerobots_dimensions(names: Any, expected: tuple[str, ...]) -> None:
    assert dimension_names(names, 2) == expected


JOINTS = ["pan.pos", "lift.pos", "elbow.pos", "gripper.pos"]


def arm(folder: Path, names: Any, kind: str = "targets") -> None:
    """A LeRobotDataset of version 2 with the names of joints; the actions lead to the states."""

    def spoil(plan: lerobot_files.Plan) -> None:
        rng = np.random.default_rng(0)
        plan["info"]["features"]["action"]["names"] = names
        plan["info"]["features"]["observation.state"] = {"dtype": "float32", "shape": [4], "names": names}
        for data in plan["data"]:
            steps = len(data["action"])
            states = np.cumsum(rng.normal(size=(steps + 1, 4)), 0).astype(np.float32)
            data["observation.state"] = list(states[:-1])
            data["action"] = list(states[1:] if kind == "targets" else np.diff(states, axis=0))

    lerobot_files.write(folder, 2, "image", spoil)


def test_joint_targets_are_proposed_as_such_and_named_where_they_are_summed(tmp_path: Path) -> None:
    arm(tmp_path / "data", {"motors": JOINTS})
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert proposal.fields["actions"] == [{"key": "action", "skipped": "last"}]
    assert "# pan.pos, lift.pos, elbow.pos: absolute positions (the name pan.pos;" in proposal.text()
    assert "# Not used" not in proposal.text()
    spec = proposal.spec
    assert spec is not None
    wrong = spec.model_copy(update={"stride": 2, "actions": (spec.actions[0].model_copy(update={"skipped": "sum"}),)})
    found = inspect_spec(wrong, "arm", 0, tmp_path).summary
    assert [each.name for each in found.actions] == JOINTS
    (text,) = [each for each in found.problems if "positions" in each]
    assert text == (
        "pan.pos, lift.pos, elbow.pos are like absolute positions (the name pan.pos; the name lift.pos), but the "
        "stride replaces the skipped actions by their sum; add an entry for them with `skipped: last`"
    )
    assert any(each.startswith("gripper.pos is like a gripper's switch") for each in found.problems)
    right = inspect_spec(spec.model_copy(update={"stride": 2}), "arm", 0, tmp_path).summary
    assert not any("skipped" in each for each in right.problems)


def test_end_effector_poses_and_world_states_are_told_by_the_state_they_follow(tmp_path: Path) -> None:
    def edit(folder: Path, lines: list[dict[str, Any]]) -> None:
        rng = np.random.default_rng(1)
        for line in lines:
            poses = np.cumsum(rng.normal(size=(10, 3)), 0)
            line |= {"world_state": poses[:-1].tolist(), "actions": poses[1:].tolist()}

    test_videos.write(tmp_path / "data", edit)
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert proposal.fields["actions"] == [{"key": "actions", "skipped": "last"}]
    assert "it follows world_state[0]" in proposal.text()


def test_the_names_of_two_arms_stand_behind_their_columns(tmp_path: Path) -> None:
    arm(tmp_path / "data", JOINTS)
    for path in (tmp_path / "data").glob("data/*/*.parquet"):
        table = pq.read_table(path)
        for side in ("left", "right"):
            table = table.append_column(f"action.{side}_arm", table["action"])
        pq.write_table(table.drop_columns(["action"]), path)
    info = json.loads((tmp_path / "data/meta/info.json").read_text())
    action = info["features"].pop("action")
    info["features"] |= {f"action.{side}_arm": action for side in ("left", "right")}
    (tmp_path / "data/meta/info.json").write_text(json.dumps(info))
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert [entry["key"] for entry in proposal.fields["actions"]] == ["action.left_arm", "action.right_arm"]
    assert proposal.fields["action_width"] == 8
    spec = proposal.spec
    assert spec is not None
    named = inspect_spec(spec, "arm", 0, tmp_path).summary.actions
    assert named[0].name == "action.left_arm/pan.pos"
    assert named[7].name == "action.right_arm/gripper.pos"


def test_one_vector_a_limb_and_what_is_left_out(tmp_path: Path) -> None:
    def limbs(plan: lerobot_files.Plan) -> None:
        features = plan["info"]["features"]
        parts = {"left_arm": 3, "left_gripper": 1, "right_arm": 3, "right_gripper": 1}
        features |= {f"action.{part}": {"dtype": "float32", "shape": [n], "names": None} for part, n in parts.items()}
        rng = np.random.default_rng(0)
        for data in plan["data"]:
            steps = len(data["frame_index"])
            for part, n in parts.items():
                values = rng.normal(size=(steps, n)).astype(np.float32)
                data[f"action.{part}"] = list(values) if n > 1 else values[:, 0]

    def only_limbs(plan: lerobot_files.Plan) -> None:
        limbs(plan)
        del plan["info"]["features"]["action"]
        for data in plan["data"]:
            del data["action"]

    lerobot_files.write(tmp_path / "limbs", 2, "image", only_limbs)
    proposal = propose(str(tmp_path / "limbs"), {}, tmp_path)
    assert proposal.fields["actions"] == [
        {"key": "action.left_arm"},
        {"key": "action.left_gripper", "skipped": "last"},
        {"key": "action.right_arm"},
        {"key": "action.right_gripper", "skipped": "last"},
    ]
    assert proposal.fields["action_width"] == 8
    assert proposal.problem == ""
    lerobot_files.write(tmp_path / "both", 2, "image", limbs)
    proposal = propose(str(tmp_path / "both"), {}, tmp_path)
    assert [entry["key"] for entry in proposal.fields["actions"]] == ["action"]
    assert (
        "# Not used, although named like actions: action.left_arm (3 of float32), action.left_gripper (1 of float32), "
        "action.right_arm (3 of float32), action.right_gripper (1 of float32).\n"
    ) in proposal.text()
