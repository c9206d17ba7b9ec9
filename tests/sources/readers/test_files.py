"""Files of a data set: paths that lead out of it, pointers of Git LFS, folders whose names are patterns."""

import json
import os
import re
from pathlib import Path

import lerobot_files as arm
import pytest
import test_calvin
import test_libero
import test_videos
from hypothesis import given
from hypothesis import strategies as st
from reading import read_all

from roboalign.__main__ import main
from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.files import Files, inside
from roboalign.sources.spec import RecordedSpec

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 48213\n".format("ab" * 32)


@pytest.mark.parametrize("path", ["a", "a/b.c", "a b/[c]", "..a/b..", "a/./b", "é/ü.mp4"])
def test_a_path_inside_is_taken(path: str) -> None:
    assert inside(path) == path.replace("/./", "/")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../x", "is the file '../x', which is outside of the data set"),
        ("a/../../x", "is the file 'a/../../x', which is outside of the data set"),
        ("/etc/passwd", "is the file '/etc/passwd', which is outside of the data set"),
        ("file:///etc/passwd", "is the file 'file:///etc/passwd', which is outside of the data set"),
        ("a\\..\\x", "is 'a\\\\..\\\\x', which is not a path of a file"),
        ("a\0b", "is 'a\\x00b', which is not a path of a file"),
        ("a\udc80", "is 'a\\udc80', which is not a path of a file"),
        ("a" * 300, f"is '{'a' * 255}', which is not a path of a file"),
        (" ", "is not the path of a file"),
        (3, "is not the path of a file"),
        (None, "is not the path of a file"),
    ],
)
def test_a_path_outside_is_refused(path: object, reason: str) -> None:
    with pytest.raises(DamagedError, match=f"^{re.escape(reason)}$"):
        inside(path)


@given(st.text(max_size=40))
def test_what_is_inside_stays_below_the_folder(path: str) -> None:
    try:
        found = inside(path)
    except DamagedError:
        return
    assert os.path.normpath(os.path.join("/set/data", found)).startswith("/set/data")


def test_files_open_nothing_above_their_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "data").mkdir()
    files = Files.at(str(tmp_path / "data"), {}, tmp_path)
    for call in (files.open, files.bytes, files.exists):
        with pytest.raises(SourceError, match=r"a path is the file '\.\./secret', which is outside"):
            call("../secret")
    os.mkfifo(tmp_path / "data/pipe")
    with pytest.raises(IsADirectoryError):
        files.open("pipe")


def sets(folder: Path) -> dict[str, tuple[Path, RecordedSpec]]:
    """By format, a file that becomes a pointer and the data set's spec."""
    arm.write(folder / "v3", 3)
    arm.write(folder / "v2", 2)
    test_libero.write(folder / "libero/a.hdf5")
    test_calvin.write(folder / "calvin")
    test_videos.write(folder / "videos")
    return {
        "parquet": (folder / "v3/data/chunk-000/file-000.parquet", arm.spec(folder / "v3")),
        "list": (folder / "v3/meta/episodes/chunk-000/file-000.parquet", arm.spec(folder / "v3")),
        "mp4": (folder / "v2/videos/chunk-000" / arm.CAMERA / "episode_000001.mp4", arm.spec(folder / "v2")),
        "json": (folder / "v2/meta/info.json", arm.spec(folder / "v2")),
        "hdf5": (folder / "libero/a.hdf5", test_libero.spec(folder / "libero")),
        "npz": (folder / "calvin/training/episode_0000063.npz", test_calvin.spec(folder / "calvin")),
        "npy": (folder / "calvin/training/lang_annotations/auto_lang_ann.npy", test_calvin.spec(folder / "calvin")),
        "jsonl": (folder / "videos/episodes.jsonl", test_videos.spec(folder / "videos")),
        "clip": (folder / "videos/clips/1.mp4", test_videos.spec(folder / "videos")),
    }


def test_a_pointer_of_git_lfs_is_named_in_every_format(tmp_path: Path) -> None:
    for path, spec in sets(tmp_path).values():
        content = path.read_bytes()
        path.write_text(POINTER)
        name = path.relative_to(spec.uri)
        message = (
            f"{spec.uri}: {name} is a Git LFS pointer, not the 48213 bytes of the file; "
            "run `git lfs pull` in the data set's repository"
        )
        with pytest.raises(SourceError, match=f"^{re.escape(message)}$"):
            read_all(spec, tmp_path / "cache")
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["[v2] data", "a*b?", "{x,y}"])
def test_a_folder_is_no_pattern(tmp_path: Path, name: str) -> None:
    test_libero.write(tmp_path / name / "deep/a.hdf5", demos=2)
    test_libero.write(tmp_path / "v other/b.hdf5", demos=1)
    episodes, damaged, _ = read_all(test_libero.spec(tmp_path / name), tmp_path)
    assert [each.id for each in episodes] == [f"source/deep/a.hdf5#demo_{number}" for number in range(2)]
    assert not damaged
    test_videos.write(tmp_path / f"videos {name}")
    assert Files.at(str(tmp_path / f"videos {name}"), {}, tmp_path).glob("*.jsonl") == ["episodes.jsonl"]


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("lift/image.hdf5", "lift"),
        ("rlds/features.json", "rlds"),
        ("videos/episodes.jsonl", "videos"),
        ("arm/meta/info.json", "arm"),
        ("arm/data/chunk-000/file-000.parquet", "arm"),
        ("calvin/training/lang_annotations/auto_lang_ann.npy", "calvin"),
    ],
)
def test_a_uri_that_names_a_file_is_answered_with_the_folder(
    tmp_path: Path, file: str, folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for each in (file, "arm/meta/info.json"):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_text(json.dumps({}))
    assert main(["inspect", str(tmp_path / file)]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / file} is a file; `uri` is the folder of the data set, here {tmp_path / folder}\n"
    )
