"""Text that is not UTF-8, NUL and control characters: that episode alone is damaged, in every format."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import lerobot_files as arm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rlds_files as toy
import test_calvin
import test_libero
import test_videos
from hypothesis import given
from hypothesis import strategies as st
from reading import only, read_all

from roboalign.errors import printable
from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.reader import Damaged
from roboalign.sources.readers.text import LONGEST, check_text, decode_text, parse_json
from roboalign.sources.spec import RecordedSpec

BAD = (b"push \xff", b"push \x00", b"push \x1b[2J", b"push \xed\xa0\x80")


@given(st.text())
def test_what_passes_can_be_kept_and_shown(text: str) -> None:
    try:
        check_text(text, "it")
    except DamagedError:
        return
    assert text.encode().decode() == text
    assert pa.array([text])[0].as_py() == text


@given(st.binary(max_size=30))
def test_bytes_come_back_or_are_refused(data: bytes) -> None:
    text = decode_text(data)
    try:
        known = data.decode()
    except UnicodeDecodeError:
        with pytest.raises(DamagedError, match=r"^it is not UTF-8 at character|^it has the control character"):
            check_text(text, "it")
        return
    assert text == known


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_printed_is_one_line_without_orders_to_the_terminal(text: str) -> None:
    assert printable(text).isprintable()
    damaged = Damaged(text, text)
    assert json.dumps([damaged.name, damaged.reason], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\0", "it has the control character U+0000 at character 1"),
        ("\x1b[2J", "it has the control character U+001B at character 0"),
        ("ab\ud800", "it is not UTF-8 at character 2"),
        ("a" * (LONGEST + 1), "it has 10001 characters, more than 10000"),
    ],
)
def test_the_reason_is_named(text: str, reason: str) -> None:
    with pytest.raises(DamagedError, match=f"^{reason.replace('+', '[+]')}$"):
        check_text(text, "it")
    check_text("two\nlines\tand é", "it")


def lerobot_2(folder: Path, text: bytes) -> RecordedSpec:
    arm.write(folder, 2, "image")
    lines = [json.dumps({"task_index": index, "task": task}).encode() for index, task in enumerate(arm.TASKS)]
    lines[1] = b'{"task_index": 1, "task": "' + text.replace(b"\0", b"\\u0000").replace(b"\x1b", b"\\u001b") + b'"}'
    (folder / "meta/tasks.jsonl").write_bytes(b"\n".join(lines))
    return arm.spec(folder)


def lerobot_3(folder: Path, text: bytes) -> RecordedSpec:
    arm.write(folder, 3, "image")
    data = arm.TASKS[0].encode() + text
    offsets = np.asarray([0, len(arm.TASKS[0]), len(data)], np.int32)
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(data))
    pq.write_table(pa.table({"task_index": [0, 1], "__index_level_0__": texts}), folder / "meta/tasks.parquet")
    return arm.spec(folder)


def rlds(folder: Path, text: bytes) -> RecordedSpec:
    records = [toy.record(number) for number in range(3)]
    records[1]["steps/language_instruction"] = [text] * toy.LENGTHS[1]
    toy.write(folder, records)
    return toy.SPEC.validate_python(toy.spec(folder))


def videos(folder: Path, text: bytes) -> RecordedSpec:
    test_videos.write(folder)
    path = folder / "episodes.jsonl"
    escaped = text.replace(b"\0", b"\\u0000").replace(b"\x1b", b"\\u001b")
    path.write_bytes(path.read_bytes().replace(b"push block 1", escaped))
    return test_videos.spec(folder)


def libero(folder: Path, text: bytes) -> RecordedSpec:
    """The instruction of a demonstration itself; its file has none."""
    test_libero.write(folder / "a.hdf5")
    with h5py.File(folder / "a.hdf5", "a") as file:
        for number in range(3):
            kind = h5py.string_dtype("utf-8", 20)
            words = np.array(text if number == 1 else b"push", kind)
            file[f"data/demo_{number}"].attrs.create("words", words, dtype=kind)
    return test_libero.spec(folder, instruction="words")


def calvin(folder: Path, text: bytes) -> RecordedSpec:
    test_calvin.write(folder)
    test_calvin.text(decode_text(text))(folder)
    return test_calvin.spec(folder)


@pytest.mark.parametrize("text", BAD, ids=("latin", "NUL", "escape", "surrogate"))
@pytest.mark.parametrize("write", [lerobot_2, lerobot_3, rlds, videos, libero, calvin])
def test_one_bad_character_damages_one_episode(
    tmp_path: Path, write: Callable[[Path, bytes], RecordedSpec], text: bytes
) -> None:
    if write is libero and text[-1:] == b"\0":
        text = b"push \x00."  # HDF5 pads fixed texts by NUL
    episodes, damaged, _ = read_all(write(tmp_path / "data", text), tmp_path / "cache")
    assert len(episodes) == 2
    assert "UTF-8" in only(damaged).reason or "control character" in only(damaged).reason


def test_json_that_is_no_utf8_keeps_its_other_lines() -> None:
    assert parse_json(b'{"a": "\xff"}') == {"a": "\udcff"}
    assert parse_json('{"a": "é"}'.encode("utf-16")) == {"a": "é"}
