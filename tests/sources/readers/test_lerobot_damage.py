import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lerobot_files as arm
import numpy as np
import pytest

from roboalign.sources.errors import SourceError
from roboalign.sources.readers.convert import convert
from roboalign.sources.readers.reader import Damaged
from roboalign.store import EpisodeWriter

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


def picture(step: int, value: Any) -> Spoil:
    def spoil(plan: arm.Plan) -> None:
        frames = list(plan["frames"][1])
        frames[step] = value
        plan["frames"][1] = frames

    return spoil


def fewer_frames(plan: arm.Plan) -> None:
    plan["frames"][1] = plan["frames"][1][:-1]


def more_frames(plan: arm.Plan) -> None:
    plan["frames"][1] = np.concatenate([plan["frames"][1]] * 2)


NAN = np.asarray([0, np.nan, 0, 0], np.float32)
CASES: dict[str, tuple[tuple[int, ...], str, Spoil, str]] = {
    # Versions, how pictures are kept, what is spoilt, and the reason that has to be given.
    "NaN": ((2, 3), "video", actions(2, NAN), "'action' is NaN or infinite at step 2"),
    "no value": ((2, 3), "image", actions(3, None), "'action' has no value at step 3"),
    "wrong width": ((2, 3), "image", actions(3, np.zeros(3, np.float32)), "'action' has width 3 at step 3, not 4"),
    "text": ((2,), "image", data("gripper", ["open"] * 5), "'gripper' holds values of type string, not numbers"),
    "no column": ((2,), "image", without("gripper", 1), "has no column 'gripper'; there is: action"),
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
        "task_index is 7, which the table of tasks lacks",
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
        "not numbered one after the other",
    ),
    "of another episode": ((2,), "image", data("episode_index", np.full(5, 8)), "has 0 rows of it, but 5"),
    "in pieces": ((3,), "image", data("episode_index", np.asarray([1, 1, 9, 1, 1])), "are not in one piece"),
    "other times": ((2, 3), "video", data("timestamp", np.arange(5) / 5), r"timestamp at step 1 is 0\.2 s, not 0\.1 s"),
    "no picture": ((2, 3), "image", picture(2, {"bytes": None, "path": None}), "no picture at step 2"),
    "a missing picture": (
        (2, 3),
        "image",
        picture(2, {"bytes": None, "path": "images/2.png"}),
        r"picture at step 2 is the file images/2\.png, which is missing",
    ),
    "a picture elsewhere": (
        (2, 3),
        "image",
        picture(2, {"bytes": None, "path": "../../secret.png"}),
        "lies outside of the data set",
    ),
    "a broken picture": (
        (2, 3),
        "image",
        picture(1, {"bytes": b"\x89PNG", "path": None}),
        "picture at step 1 cannot be dec",
    ),
    "half a picture": (
        (2, 3),
        "image",
        picture(4, {"bytes": arm.png(arm.frames(1)[4])["bytes"][:-50], "path": None}),
        "picture at step 4 cannot be decoded",
    ),
    "another size": (
        (2, 3),
        "image",
        picture(3, arm.frames(1, high=30)[3]),
        "at step 3 is 30 x 48 pixels, not 32 x 48",
    ),
    "fewer frames": ((2,), "video", fewer_frames, "has 4 frames, not 5"),
    "more frames": ((2,), "video", more_frames, "has 10 frames, not 5"),
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
    account, store = arm.made(tmp_path / "data", tmp_path, length=2)
    listed = [each for each in account.damaged if each.name != "meta"]
    (damaged,) = listed
    assert re.search(reason, damaged.reason), damaged.reason
    assert [info.id for info in store.infos] == [f"arm/episode_{n:06d}" for n in (0, 2)]
    for place, number in enumerate((0, 2)):
        assert arm.close(store.frames(place), arm.frames(number), kind)
    written = json.loads((tmp_path / "store/meta/quarantine.json").read_text())
    assert {"name": damaged.name, "reason": damaged.reason} in written["damaged"]
    with pytest.raises(SourceError, match=r"of \d episodes"):
        arm.made(tmp_path / "data", tmp_path / "strict", tolerance=0.0)


DATA, VIDEO = "data/chunk-000/episode_000001.parquet", f"videos/chunk-000/{arm.CAMERA}/episode_000001.mp4"


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(share * len(content))]


def spoilt(content: bytes) -> bytes:
    """Zeros in the middle."""
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


@pytest.mark.parametrize(
    ("path", "change", "reason"),
    [
        (DATA, None, "its data file .*episode_000001.parquet is missing"),
        (DATA, "folder", "its data file .*episode_000001.parquet is missing"),
        (VIDEO, "folder", "its video .*episode_000001.mp4 is missing"),
        (DATA, cut(0.9), "its data file .*episode_000001.parquet cannot be read"),
        (DATA, cut(0.0), "cannot be read"),
        (DATA, lambda _: b"PAR1 nothing at all PAR1", "cannot be read"),
        (VIDEO, None, "its video .*episode_000001.mp4 is missing"),
        (VIDEO, cut(0.6), "its video .*episode_000001.mp4 cannot be decoded"),
        (VIDEO, cut(0.0), "cannot be decoded"),
        (VIDEO, spoilt, "cannot be decoded|is damaged|ends before"),
        (VIDEO, lambda _: b"no video" * 100, "cannot be decoded"),
        (VIDEO, lambda content: content.replace(b"avc1", b"what"), "of a codec that cannot be decoded"),
    ],
)
def test_a_damaged_file_of_version_2(path: str, change: Any, reason: str, tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 2, "video")
    file = tmp_path / "data" / path
    content = file.read_bytes()
    file.unlink()
    if change == "folder":
        file.mkdir()
    elif change:
        file.write_bytes(change(content))
    account, store = arm.made(tmp_path / "data", tmp_path)
    (damaged,) = account.damaged
    assert damaged.name == "episode_000001"
    assert re.search(reason, damaged.reason), damaged.reason
    assert len(store) == 2


@pytest.mark.parametrize("change", [None, cut(0.8), lambda _: b"PAR1 nothing PAR1"])
def test_a_damaged_data_file_of_version_3_loses_its_own_episodes(change: Any, tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3, "image")
    file = tmp_path / "data/data/chunk-000/file-000.parquet"
    content = file.read_bytes()
    file.unlink()
    if change:
        file.write_bytes(change(content))
    account, store = arm.made(tmp_path / "data", tmp_path)
    assert [each.name for each in account.damaged] == ["episode_000000", "episode_000001"]
    assert all(re.search("file-000.parquet (is missing|cannot be read)", each.reason) for each in account.damaged)
    assert [info.id for info in store.infos] == ["arm/episode_000002"]


def test_a_shared_video_that_is_too_short_loses_what_it_lacks(tmp_path: Path) -> None:
    def spoil(plan: arm.Plan) -> None:
        plan["frames"][2] = plan["frames"][2][:-2]

    arm.write(tmp_path / "data", 3, "video", spoil)
    account, store = arm.made(tmp_path / "data", tmp_path)
    (damaged,) = account.damaged
    assert damaged.name == "episode_000002"
    assert re.search("has 16 frames, not the 18 that its episodes need", damaged.reason)
    assert len(store) == 2


def test_a_video_of_another_rate(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 2, "video")
    arm.video(tmp_path / "data" / VIDEO, arm.frames(1), rate=2 * arm.FPS)
    account, _ = arm.made(tmp_path / "data", tmp_path)
    (damaged,) = account.damaged
    assert re.search(r"has no frame at 0\.\d+ s|ends before", damaged.reason), damaged.reason


@pytest.mark.parametrize("version", [2, 3])
def test_an_episode_listed_twice_and_one_not_at_all(version: int, tmp_path: Path) -> None:
    arm.write(tmp_path / "twice", version, "image")
    if version == 2:
        path = tmp_path / "twice/meta/episodes.jsonl"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], lines[0], "{what", lines[2]]))
        wrong = ["meta/episodes.jsonl:2", "meta/episodes.jsonl:3", "meta"]
    else:
        (tmp_path / "twice/meta/episodes/chunk-000/file-001.parquet").write_bytes(
            (tmp_path / "twice/meta/episodes/chunk-000/file-000.parquet").read_bytes()
        )
        again = "meta/episodes/chunk-000/file-001.parquet"
        wrong = [f"{again}#0", f"{again}#1", "meta"]
    account, store = arm.made(tmp_path / "twice", tmp_path)
    assert [each.name for each in account.damaged] == wrong
    assert "is listed twice" in account.damaged[0].reason
    missing = 1 if version == 2 else 2
    assert account.damaged[2].reason == f"1 of the 3 episodes in meta/info.json are not listed: {missing}"
    assert [info.id for info in store.infos] == [f"arm/episode_{n:06d}" for n in ((0, 2) if version == 2 else (0, 1))]


def test_a_broken_list_of_version_3(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3, "image")
    (tmp_path / "data/meta/episodes/chunk-000/file-000.parquet").write_bytes(b"PAR1")
    account, store = arm.made(tmp_path / "data", tmp_path)
    assert [each.name for each in account.damaged] == ["meta/episodes/chunk-000/file-000.parquet", "meta"]
    assert "2 of the 3 episodes in meta/info.json are not listed: 0, 1" in account.damaged[1].reason
    assert [info.id for info in store.infos] == ["arm/episode_000002"]


def test_a_flipped_bit_in_an_own_store_is_found(toy_episodes: Any, tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "data", fps=10) as writer:
        for episode in toy_episodes[:2]:
            writer.add(episode)
    (file,) = (tmp_path / "data/data").rglob("*.parquet")
    content = bytearray(file.read_bytes())
    place = content.index(toy_episodes[1].actions[3].tobytes())
    content[place] ^= 1
    file.write_bytes(content)
    changes = {"camera": "observation.images.main", "actions": [{"key": "action"}], "action_width": 4}
    account, store = arm.made(tmp_path / "data", tmp_path, **changes)
    (damaged,) = account.damaged
    assert damaged.name == "episode_000001"
    assert "cannot be read" in damaged.reason
    assert np.array_equal(store.actions(0), toy_episodes[0].actions)


@pytest.mark.parametrize(("version", "kind"), [(2, "video"), (3, "video"), (3, "image")])
def test_no_damage_whatever_ends_in_another_error(version: int, kind: str, tmp_path: Path) -> None:
    arm.write(tmp_path, version, kind)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    rng = np.random.default_rng(version)
    spec = arm.spec(tmp_path)
    refused = 0
    for turn in range(40):
        path = files[turn % len(files)]
        whole = path.read_bytes()
        content, place = bytearray(whole), int(rng.integers(len(whole)))
        match turn // len(files) % 3:
            case 0:
                del content[place:]
            case 1:
                content[place : place + 40] = rng.bytes(len(content[place : place + 40]))
            case _:
                content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            found = [raw if isinstance(raw, Damaged) else convert(raw, spec, "arm") for raw in arm.read(tmp_path)]
            refused += any(isinstance(each, Damaged) for each in found)
        except SourceError:
            refused += 1
        path.write_bytes(whole)
    assert refused > 20
