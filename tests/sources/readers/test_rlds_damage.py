import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rlds_files as toy

from roboalign.sources.errors import SourceError
from roboalign.sources.readers.reader import Damaged, RawEpisode


def changed(**values: Any) -> bytes:
    """Episode 1 with other values; None leaves a feature out."""
    record = toy.record(1) | {key.replace("__", "/"): value for key, value in values.items()}
    return toy.example({key: value for key, value in record.items() if value is not None})


def images(**changes: bytes) -> list[bytes]:
    encoded = [bytes(each) for each in toy.record(1)["steps/observation/image"]]
    for place, data in changes.items():
        encoded[int(place[1:])] = data
    return encoded


def nan_at(step: int) -> np.ndarray[Any, Any]:
    values = np.zeros((5, 3), np.float32)
    values[step, 1] = np.nan
    return values


def flat(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values.reshape(-1)


RECORDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "garbage": (lambda: b"\x0a\x05nothing at all", "garbled"),
    "cut off": (lambda: toy.example(toy.record(1))[:-40], "garbled"),
    "nothing": (lambda: b"", r"no 'steps/observation/image'"),
    "no camera": (lambda: changed(steps__observation__image=None), r"no 'steps/observation/image'"),
    "camera of numbers": (
        lambda: changed(steps__observation__image=np.arange(5)),
        r"image' cannot be read: it contains int",
    ),
    "no image": (
        lambda: changed(steps__observation__image=images(_2=b"what?")),
        "image at step 2 cannot be decoded",
    ),
    "half an image": (
        lambda: changed(steps__observation__image=images(_4=toy.image(toy.frames(1)[4], "JPEG")[:300])),
        "image at step 4 cannot be decoded",
    ),
    "half a PNG": (
        lambda: changed(steps__observation__image=images(_0=toy.image(toy.frames(1)[0])[:-60])),
        "image at step 0 cannot be decoded",
    ),
    "a GIF": (
        lambda: changed(steps__observation__image=images(_0=toy.image(toy.frames(1)[0], "GIF"))),
        "image at step 0 cannot be decoded",
    ),
    "another size": (
        lambda: changed(steps__observation__image=images(_3=toy.image(toy.frames(1, high=20)[3]))),
        "image at step 3 is 20 x 24 pixels, not 16 x 24",
    ),
    "NaN": (
        lambda: changed(steps__action__world_vector=nan_at(2)),
        "'action/world_vector' is NaN or infinite at step 2",
    ),
    "no action": (lambda: changed(steps__action__gripper=None), "no 'steps/action/gripper'"),
    "wrong width": (
        lambda: changed(steps__action__world_vector=np.zeros((5, 4), np.float32)),
        r"world_vector' has 20 numbers, not 3 for each of 5 steps",
    ),
    "fewer actions": (
        lambda: changed(steps__action__terminate=np.zeros((4, 2), int)),
        r"terminate' has 8 numbers, not 2 for each of 5 steps",
    ),
    "actions of text": (
        lambda: changed(steps__action__gripper=[b"open"] * 5),
        "gripper' cannot be read: it contains byte",
    ),
    "empty": (
        lambda: changed(
            steps__observation__image=[],
            steps__action__world_vector=np.zeros(0, np.float32),
            steps__action__gripper=np.zeros(0, int),
            steps__action__terminate=np.zeros(0, int),
            steps__language_instruction=[],
        ),
        "it is empty",
    ),
    "no instruction": (lambda: changed(steps__language_instruction=[b""] * 5), "instruction .* is missing or empty"),
    "instruction left out": (lambda: changed(steps__language_instruction=None), "no 'steps/language_instruction'"),
    "fewer instructions": (
        lambda: changed(steps__language_instruction=[b"a"] * 3),
        "has 3 texts, 'steps/observation/image' 5 images",
    ),
    "instruction of garbage": (
        lambda: changed(steps__language_instruction=[b"\xff\xfe"] * 5),
        "language_instruction' cannot be read: .* not UTF-8",
    ),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_damaged_episode_is_quarantined_and_the_others_are_kept(case: str, tmp_path: Path) -> None:
    broken, reason = RECORDS[case]
    toy.write(tmp_path / "data", [toy.record(0), broken(), toy.record(2)])
    report, store = toy.made(tmp_path / "data", tmp_path)
    (damaged,) = report.damaged
    assert damaged.name == "train-00000-of-00001#1"
    assert re.search(reason, damaged.reason), damaged.reason
    assert [info.id for info in store.infos] == [f"toy/train-00000-of-00001#{n}" for n in (0, 2)]
    assert np.array_equal(store.frames(1), toy.frames(2))
    listed = json.loads((tmp_path / "store/meta/quarantine.json").read_text())
    assert listed["damaged"] == [{"name": damaged.name, "reason": damaged.reason, "lost": damaged.lost}]
    with pytest.raises(SourceError, match=r"1 of 3 episodes .* are damaged"):
        toy.made(tmp_path / "data", tmp_path / "strict", tolerance=0.0)


FILES: dict[str, tuple[Callable[[bytes, int, int], bytes], list[int], int, str]] = {
    # What becomes of the file, given where its second record begins and ends; the episodes kept; where the damage is.
    "cut in a length": (lambda d, a, b: d[: a + 5], [0], 1, "truncated .* inside a record's length; 2 of the file's 3"),
    "cut in the data": (lambda d, a, b: d[: b - 100], [0], 1, r"truncated .*: 100 bytes .* missing; 2 of the file's 3"),
    "cut in a checksum": (lambda d, a, b: d[: b - 2], [0], 1, "truncated .*: 2 bytes of a record are missing; 2 of"),
    "cut between records": (lambda d, a, b: d[:b], [0, 1], 2, "ends after 2 of the 3 episodes .*; 1 are lost"),
    "a flipped bit": (lambda d, a, b: d[: a + 80] + bytes([d[a + 80] ^ 1]) + d[a + 81 :], [0, 2], 1, "checksum of its"),
    "a false checksum": (lambda d, a, b: d[: b - 1] + bytes([d[b - 1] ^ 1]) + d[b:], [0, 2], 1, "checksum of its"),
    "a false length": (
        lambda d, a, b: d[:a] + b"\x01" + d[a + 1 :],
        [0],
        1,
        "record's length is wrong .*; 2 of the file",
    ),
    "zeros": (lambda d, a, b: d[:a] + bytes(len(d) - a), [0], 1, "record's length is wrong .*; 2 of the file's 3"),
    "garbage behind": (
        lambda d, a, b: d + b"more",
        [0, 1, 2],
        3,
        "inside a record's length; it is after the file's 3",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_damaged_file_loses_no_more_than_it_must(case: str, tmp_path: Path) -> None:
    change, kept, place, reason = FILES[case]
    records = [toy.record(n) for n in range(3)]
    toy.write(tmp_path / "data", records)
    file = tmp_path / "data" / toy.shard()
    first, second = (len(toy.framed(toy.example(record))) for record in records[:2])
    file.write_bytes(change(file.read_bytes(), first, first + second))
    report, store = toy.made(tmp_path / "data", tmp_path)
    (damaged,) = report.damaged
    assert damaged.name == f"train-00000-of-00001#{place}"
    assert re.search(reason, damaged.reason), damaged.reason
    assert [info.id for info in store.infos] == [f"toy/train-00000-of-00001#{n}" for n in kept]
    for index, number in enumerate(kept):
        assert np.array_equal(store.frames(index), toy.frames(number))


@pytest.mark.parametrize("folder", [False, True])
def test_a_missing_file_is_named_with_what_is_lost(folder: bool, tmp_path: Path) -> None:
    if folder:
        (tmp_path / toy.shard(1, 2)).mkdir()
    toy.write(tmp_path, [toy.record(0)])
    (tmp_path / toy.shard()).rename(tmp_path / toy.shard(0, 2))
    (tmp_path / "dataset_info.json").write_text(json.dumps(toy.info((1, 40))))
    first, missing = toy.read(tmp_path)
    assert isinstance(first, RawEpisode)
    reason = f"the file {toy.shard(1, 2)} is missing; 40 episodes are lost"
    assert missing == Damaged("train-00001-of-00002", reason, 40)
