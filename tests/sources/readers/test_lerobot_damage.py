import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lerobot_files as arm
import numpy as np
import pytest

from roboalign.sources.errors import SourceError

Spoil = Callable[[arm.Plan], None]


def data(key: str, value: Any) -> Spoil:
    """Put another column into episode 1."""

    def spoil(plan: arm.Plan) -> None:
        plan["data"][1][key] = value

    return spoil


def without(key: str, *numbers: int) -> Spoil:
    def spoil(plan: arm.Plan) -> None:
        for number in numbers:
            del plan["data"][number][key]

    return spoil


def actions(step: int, value: Any) -> Spoil:
    values = list(np.zeros((5, 4), np.float32))
    values[step] = value
    return data("action", values)


def shorter(plan: arm.Plan) -> None:
    plan["data"][1] = {key: values[:-1] for key, values in plan["data"][1].items()}


def index(**changes: Any) -> Spoil:
    return lambda plan: plan["episodes"][1].update(changes)


def listed_twice(plan: arm.Plan) -> None:
    plan["episodes"].insert(1, dict(plan["episodes"][0]))
    plan["frames"].insert(1, plan["frames"][0])


def empty(plan: arm.Plan) -> None:
    plan["episodes"][1]["length"] = 0
    plan["data"][1] = {key: values[:0] for key, values in plan["data"][1].items()}
    plan["frames"][1] = plan["frames"][1][:0]


def image(step: int, value: Any) -> Spoil:
    def spoil(plan: arm.Plan) -> None:
        frames = list(plan["frames"][1])
        frames[step] = value
        plan["frames"][1] = frames

    return spoil


def fewer_frames(plan: arm.Plan) -> None:
    plan["frames"][1] = plan["frames"][1][:-1]


NAN = np.asarray([0, np.nan, 0, 0], np.float32)
CASES: dict[str, tuple[tuple[int, ...], str, Spoil, str]] = {
    # Versions, how images are kept, what is spoilt, and the reason that has to be given.
    "NaN": ((2, 3), "video", actions(2, NAN), "'action' is NaN or infinite at step 2"),
    "no value": ((2, 3), "image", actions(3, None), "'action' has no value at step 3"),
    "wrong width": ((2, 3), "image", actions(3, np.zeros(3, np.float32)), "'action' has width 3 at step 3, not 4"),
    "text": ((2,), "image", data("gripper", ["open"] * 5), "'gripper' contains values of type string, not numbers"),
    "no column": ((2,), "image", without("gripper", 1), "has no column 'gripper'; available: action"),
    "no camera": (
        (2,),
        "image",
        lambda plan: plan["frames"].__setitem__(1, None),
        r"has no column 'observation\.images\.top'",
    ),
    "unknown task": (
        (2, 3),
        "video",
        data("task_index", np.full(5, 7)),
        "task_index is 7, which is not in the table of tasks",
    ),
    "no instruction": ((2, 3), "image", lambda plan: plan["tasks"].update({1: " "}), "'task' is missing or empty"),
    "fewer rows": ((2, 3), "image", shorter, "has 4 rows of it, but 5 frames are listed"),
    "another length": ((2, 3), "image", index(length=9), "has 5 rows of it, but 9 frames are listed"),
    "negative length": ((2, 3), "image", index(length=-1), "lists episode 1 with -1 frames"),
    "no length": ((2, 3), "image", index(length=None), "it does not describe an episode"),
    "empty": ((2, 3), "image", empty, "it is empty"),
    "another order": (
        (2, 3),
        "image",
        data("frame_index", np.asarray([0, 1, 3, 2, 4])),
        "frame_index values are not consecutive",
    ),
    "of another episode": ((2,), "image", data("episode_index", np.full(5, 8)), "has 0 rows of it, but 5"),
    "in pieces": ((3,), "image", data("episode_index", np.asarray([1, 1, 9, 1, 1])), "are not contiguous"),
    "no image": ((2, 3), "image", image(2, {"bytes": None, "path": None}), "no image at step 2"),
    "a missing image": (
        (2, 3),
        "image",
        image(2, {"bytes": None, "path": "images/2.png"}),
        r"image at step 2 is the file images/2\.png, which is missing",
    ),
    "an image elsewhere": (
        (2, 3),
        "image",
        image(2, {"bytes": None, "path": "../../secret.png"}),
        "is outside of the data set",
    ),
    "a broken image": (
        (2, 3),
        "image",
        image(1, {"bytes": b"\x89PNG", "path": None}),
        "image at step 1 cannot be dec",
    ),
    "half an image": (
        (2, 3),
        "image",
        image(4, {"bytes": arm.png(arm.frames(1)[4])["bytes"][:-50], "path": None}),
        "image at step 4 cannot be decoded",
    ),
    "another size": (
        (2, 3),
        "image",
        image(3, arm.frames(1, high=30)[3]),
        "at step 3 is 30 x 48 pixels, not 32 x 48",
    ),
    "fewer frames": ((2,), "video", fewer_frames, "has 4 frames, not 5"),
    "no place in a video": (
        (3,),
        "video",
        index(**{"no file_index": True}),
        "no video of the camera|does not describe",
    ),
}


@pytest.mark.parametrize(("case", "version"), [(case, v) for case, (versions, *_) in CASES.items() for v in versions])
def test_a_damaged_episode_is_quarantined_and_the_others_are_kept(case: str, version: int, tmp_path: Path) -> None:
    _, kind, spoil, reason = CASES[case]
    arm.write(tmp_path / "data", version, kind, spoil)
    report, store = arm.made(tmp_path / "data", tmp_path, length=2)
    listed = [each for each in report.damaged if each.name != "meta"]
    (damaged,) = listed
    assert re.search(reason, damaged.reason), damaged.reason
    assert [info.id for info in store.infos] == [f"arm/episode_{n:06d}" for n in (0, 2)]
    for place, number in enumerate((0, 2)):
        assert arm.close(store.frames(place), arm.frames(number), kind)
    written = json.loads((tmp_path / "store/meta/quarantine.json").read_text())
    assert {"name": damaged.name, "reason": damaged.reason, "lost": damaged.lost} in written["damaged"]
    with pytest.raises(SourceError, match=r"of \d episodes"):
        arm.made(tmp_path / "data", tmp_path / "strict", tolerance=0.0)
