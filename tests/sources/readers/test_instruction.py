"""Instructions that a spec states: literal texts, and what named groups find in a field."""

import json
from pathlib import Path
from typing import Any

import h5py
import lerobot_files
import numpy as np
import pytest
import rlds_files
import test_calvin
import test_libero
import test_videos
from pydantic import TypeAdapter, ValidationError
from reading import read_all

from roboalign.__main__ import main
from roboalign.sources.errors import DamagedError
from roboalign.sources.inspection.proposal import propose
from roboalign.sources.readers.instruction import state_instruction
from roboalign.sources.readers.instruction_spec import InstructionSpec
from roboalign.sources.readers.reader import RawEpisode
from roboalign.sources.spec import SourceSpec

ADAPTER: TypeAdapter[Any] = TypeAdapter(SourceSpec)
TASK = {"field": "file", "pattern": r"(?P<task>[^/]+?)(?:_demo)?\.\w+$"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, so that nothing is cached in the checkout."""
    monkeypatch.chdir(tmp_path)


def fields(kind: str, folder: Path) -> dict[str, Any]:
    """A data set of a kind, and the fields of its spec."""
    match kind:
        case "rlds":
            rlds_files.write(folder, [rlds_files.record(number) for number in range(3)])
            return rlds_files.spec(folder)
        case "lerobot":
            lerobot_files.write(folder, 3, "image")
            return {
                "kind": "lerobot", "uri": str(folder), "camera": lerobot_files.CAMERA, "actions": [{"key": "action"}],
                "action_width": 4, "length": 2, "image": {"height": 32, "width": 48},
            }  # fmt: skip
        case "calvin":
            test_calvin.write(folder)
            return dict(json.loads(test_calvin.spec(folder).model_dump_json(exclude_unset=True)))
        case "libero":
            test_libero.write(folder / "pick_up_the_cup_demo.hdf5")
            return dict(json.loads(test_libero.spec(folder).model_dump_json(exclude_unset=True)))
        case _:
            test_videos.write(folder)
            return dict(json.loads(test_videos.spec(folder).model_dump_json(exclude_unset=True)))


@pytest.mark.parametrize("kind", ["rlds", "lerobot", "calvin", "libero", "videos"])
def test_a_literal_text_stands_for_all_episodes(tmp_path: Path, kind: str) -> None:
    spec = ADAPTER.validate_python(fields(kind, tmp_path / "data") | {"instruction": {"text": "stack the cups"}})
    episodes, damaged, _ = read_all(spec, tmp_path)
    assert not damaged
    assert [each.instruction for each in episodes] == ["stack the cups"] * 3


@pytest.mark.parametrize(
    ("kind", "stated", "expected"),
    [
        ("lerobot", {"field": "room", "pattern": r"(?P<n>\d)", "text": "tidy room {n}"}, "tidy room 0"),
        ("lerobot", {"field": "task", "pattern": r"the (?P<thing>\w+)", "text": "move the {thing}"}, "move the block"),
        ("calvin", {"field": "recording", "pattern": r"(?P<n>\d+)", "text": "play {n}"}, "play 0000040"),
        ("calvin", {"field": "ann", "pattern": r"(?P<verb>\w+)"}, "push"),
        ("libero", TASK, "pick up the cup"),
        ("videos", {"field": "operator/name", "pattern": "(?P<who>.+)", "text": "as {who} does"}, "as ada does"),
        ("videos", {"field": "instruction", "pattern": r"push (?P<a>\w+) (?P<b>\d)", "text": "{b}: {a}"}, "0: block"),
    ],
)
def test_a_pattern_finds_the_instruction(tmp_path: Path, kind: str, stated: dict[str, str], expected: str) -> None:
    spec = ADAPTER.validate_python(fields(kind, tmp_path / "data") | {"instruction": stated})
    episodes, damaged, _ = read_all(spec, tmp_path)
    assert not damaged
    assert episodes[0].instruction == expected


def test_what_the_pattern_does_not_find_is_damaged_by_name(tmp_path: Path) -> None:
    stated = {"field": "instruction", "pattern": r"block (?P<n>[12])"}
    episodes, damaged, _ = read_all(
        ADAPTER.validate_python(fields("videos", tmp_path / "data") | {"instruction": stated}), tmp_path
    )
    assert [each.instruction for each in episodes] == ["1", "2"]
    assert [each.reason for each in damaged] == [
        "its 'instruction' is 'push block 0', which instruction.pattern does not match"
    ]


def test_an_absent_field_is_named() -> None:
    raw = RawEpisode("a", 1, lambda _: iter(()), {}, "", {"file": "x"})
    with pytest.raises(DamagedError, match="it has no attribute 'folder'; available: file"):
        state_instruction(InstructionSpec(field="folder", pattern="(?P<a>.)"), raw)


def test_braces_of_a_literal_text_mean_themselves() -> None:
    raw = RawEpisode("a", 1, lambda _: iter(()), {}, "")
    assert state_instruction(InstructionSpec(text="{all}"), raw) == "{all}"


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({}, "text is empty; write the instruction, or give field and pattern"),
        ({"text": " "}, "text is empty"),
        ({"field": "file"}, "field needs a pattern; to use the whole field, write `file` alone"),
        ({"pattern": "(?P<a>.)"}, "pattern needs a field; set field too"),
        ({"field": "file", "pattern": "(.)"}, "pattern has no named group"),
        ({"field": "file", "pattern": "("}, "'(' is not a regular expression"),
        ({"field": "file", "pattern": "(?P<a>.)", "text": "{b}"}, "text names {b}; the groups of pattern are: a"),
        ({"field": "file", "pattern": "(?P<a>.)", "text": "{a"}, "'{a' cannot be filled in"),
    ],
)
def test_what_makes_no_sense_is_refused(stated: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        InstructionSpec.model_validate(stated)
    assert message in str(caught.value)


def test_the_instruction_of_files_without_attributes_is_their_name(tmp_path: Path) -> None:
    """As the public script that filters LIBERO's no-op steps leaves them."""
    sky = np.zeros((32, 32, 3), np.uint8)
    sky[:16], sky[16:] = (255, 0, 0), (0, 0, 255)
    names = ("pick_up_the_bowl_on_the_stove_demo", "pick_up_the_bowl_on_the_ramekin_demo")
    (tmp_path / "data/suite_no_noops").mkdir(parents=True)
    for name in names:
        with h5py.File(tmp_path / f"data/suite_no_noops/{name}.hdf5", "w") as file:
            demo = file.create_group("data/demo_0")
            demo["obs/agentview_rgb"] = np.repeat(sky[None, ::-1], 6, 0)
            demo["actions"] = np.random.default_rng(0).uniform(-1, 1, (6, 7))
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert (proposal.missing, proposal.problem) == ({}, "")
    assert (proposal.fields["upside_down"], proposal.fields["after_action"]) == (True, False)
    assert proposal.spec is not None
    episodes, damaged, _ = read_all(proposal.spec, tmp_path)
    assert not damaged
    assert sorted(each.instruction for each in episodes) == [
        "pick up the bowl on the ramekin",
        "pick up the bowl on the stove",
    ]
    np.testing.assert_array_equal(episodes[0].frames[0], sky)


def test_a_spec_is_printed_although_there_is_no_instruction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """robomimic's own files, which tell the environment and no task."""
    (tmp_path / "data/lift").mkdir(parents=True)
    with h5py.File(tmp_path / "data/lift/image.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
        data["demo_0/actions"] = np.random.default_rng(0).uniform(-1, 1, (6, 7))
        data["demo_0/obs/agentview_image"] = np.zeros((6, 32, 32, 3), np.uint8)
    assert main(["inspect", str(tmp_path / "data")]) == 1
    printed = capsys.readouterr()
    assert "but no instruction was found (candidates: none); fill in the line marked MISSING" in printed.err
    (line,) = [each for each in printed.out.splitlines() if "# MISSING: write the text, as here, or name a" in each]
    assert line.startswith("instruction: {text: ")
    assert "#   env_args/env_name: Lift\n" in printed.out
    Path("mine.yaml").write_text(printed.out.replace(line, 'instruction: {text: "lift the cube"}'))
    assert main(["inspect", "mine.yaml"]) == 0
    assert "    1  lift the cube\n" in capsys.readouterr().out


def test_blank_tasks_alone_are_a_missing_instruction(tmp_path: Path) -> None:
    def blank(_: Path, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["instruction"] = " "

    test_videos.write(tmp_path / "data", blank)
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert proposal.missing == {"instruction": "'instruction', which is empty"}
    assert proposal.problem == ""
    assert proposal.fields["action_width"] == 3
