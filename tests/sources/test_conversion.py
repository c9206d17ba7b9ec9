"""`convert` writes what the stage writes, without an experiment; and places of no known format are described."""

import json
from pathlib import Path
from typing import Any

import h5py
import lerobot_files
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rlds_files
import test_libero
import test_videos
import yaml

from roboalign.__main__ import main
from roboalign.hardware.spec import ProcessesSpec
from roboalign.sources.shards import materialise
from roboalign.store import EpisodeStore

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, so that nothing is cached in the checkout."""
    monkeypatch.chdir(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_spec_gives_the_stages_bytes(tmp_path: Path, capsys: Capture) -> None:
    test_videos.write(tmp_path / "data", lambda _, lines: lines[1].update(video="none.mp4"))
    spec = test_videos.spec(tmp_path / "data", stride=2, tolerance=0.5)
    Path("mine.yaml").write_text(yaml.safe_dump(json.loads(spec.model_dump_json(exclude_unset=True))))
    assert main(["convert", "mine.yaml", "out/my-set", "--workers", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "out/my-set: 2 episodes, 10 frames\n"
    assert "damaged, left out: episodes.jsonl:2: the video none.mp4 is missing\n" in printed.err
    alone = ProcessesSpec(kind="processes", workers=1)
    stage = tmp_path / "stage/store"
    materialise(spec, "my_set", stage, tmp_path / "scratch", tmp_path / "cache", alone, lambda *_: None)
    assert contents(Path("out/my-set")) == contents(stage)
    assert [path.name for path in Path("out").iterdir()] == ["my-set"]


@pytest.mark.parametrize("kind", ["libero", "lerobot", "videos"])
def test_a_data_set_without_a_spec_is_converted_whole(tmp_path: Path, kind: str) -> None:
    match kind:
        case "libero":
            test_libero.write(tmp_path / "data/pick_up_the_cup_demo.hdf5")
        case "lerobot":
            lerobot_files.write(tmp_path / "data", 3, "image")
        case _:
            test_videos.write(tmp_path / "data")
    assert main(["convert", str(tmp_path / "data"), "out", "--workers", "1"]) == 0
    store = EpisodeStore(Path("out"))
    assert len(store) == 3
    if kind == "videos":
        np.testing.assert_array_equal(store.actions(1), test_videos.actions(1))
        assert store.infos[1].instruction == "push block 1"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["data", "there"], 2, "there is there already; remove it, or name another folder"),
        (["data", "out", "--workers", "-1"], 2, "--workers is -1; give 0 or more"),
        (["data", "out", "--option", "x"], 2, "--option x has no value; write KEY=VALUE"),
        (["./data", "out"], 1, "but it has no instruction; save what `python -m roboalign inspect ./data` prints"),
        (["./none", "out"], 1, "./none does not exist"),
        (["nothing", "out"], 2, "there is no specs/sources/nothing.yaml"),
    ],
)
def test_what_cannot_be_converted(tmp_path: Path, words: list[str], code: int, message: str, capsys: Capture) -> None:
    Path("there").mkdir()

    def silence(_: Path, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            del line["instruction"]

    test_videos.write(tmp_path / "data", silence)
    assert main(["convert", *words]) == code
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def unknown(tmp_path: Path, capsys: Capture) -> str:
    assert main(["inspect", str(tmp_path / "data")]) == 1
    return capsys.readouterr().err


def save_npz(path: Path, **arrays: Any) -> None:
    np.savez(path, **arrays)


def test_the_nearest_reader_and_what_is_missing(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    (folder / "notes").write_text("x")
    assert "no reader is close" not in unknown(tmp_path, capsys)  # nothing has a suffix
    (folder / "a.csv").write_text("time,x,y\n0,1,2\n")
    printed = unknown(tmp_path, capsys)
    assert "by suffix: 1 .csv\na.csv contains time, x, y\nno reader is close;" in printed
    (folder / "a.jsonl").write_text('{"clip": "a.bin", "text": "b"}\n')
    printed = unknown(tmp_path, capsys)
    assert "a.jsonl contains clip, text\n" in printed
    assert "closest reader: `videos`; a line with the path of a video" in printed
    save_npz(folder / "inner/a.npz", frames=np.zeros((3, 4, 4)), action=np.zeros((3, 2)))
    printed = unknown(tmp_path, capsys)
    assert "inner/a.npz contains frames, action\n" in printed
    assert "closest reader: `npz`; an array of images, uint8 (T, H, W, 3), is missing" in printed
    (folder / "a.jsonl").unlink()
    (folder / "b.mp4").write_bytes(b"")
    assert "closest reader: `videos` (found .mp4 files); episodes.jsonl with one line per video is missing" in unknown(
        tmp_path, capsys
    )
    (folder / "b.json").write_text('[{"x": 1}]')
    assert "closest reader: `ctrl_world`; annotation/<split>/*.json" in unknown(tmp_path, capsys)
    with h5py.File(folder / "c.hdf5", "w") as file:
        file["observations/qpos"] = np.zeros(3)
    printed = unknown(tmp_path, capsys)
    assert "c.hdf5 contains observations/qpos\n" in printed
    assert "closest reader: `aloha`; images are missing under observations/images/<camera>" in printed
    pq.write_table(pa.table({"image": [1]}), folder / "d.parquet")
    assert "closest reader: `lerobot`; meta/info.json is missing" in unknown(tmp_path, capsys)
    rlds_files.write(tmp_path / "rlds", [rlds_files.record(0)])
    shard = next((tmp_path / "rlds").glob("*tfrecord*"))
    shard.rename(folder / shard.name)
    printed = unknown(tmp_path, capsys)
    assert "closest reader: `rlds`; features.json is missing" in printed
    assert f"{shard.name} contains steps/" in printed


def test_a_damaged_file_of_an_unknown_place_is_no_error(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a.hdf5", "a.npz", "a.parquet", "a.json"):
        (tmp_path / "data" / name).write_bytes(b"none")
    printed = unknown(tmp_path, capsys)
    assert "a.hdf5 contains nothing readable\n" in printed
    assert "Traceback" not in printed
