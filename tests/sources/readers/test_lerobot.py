import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import lerobot_files as arm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from roboalign.sources.errors import SourceError
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.lerobot import Lerobot
from roboalign.store import EpisodeStore, EpisodeWriter
from roboalign.store.spec import StorageSpec

ALL = [(2, "video"), (2, "image"), (3, "video"), (3, "image")]


@pytest.mark.parametrize(("version", "kind"), ALL)
def test_episodes_come_back_as_they_were_written(version: int, kind: str, tmp_path: Path) -> None:
    arm.write(tmp_path, version, kind)
    found = arm.sound(tmp_path)
    assert [raw.name for raw in found] == [f"episode_{n:06d}" for n in range(3)]
    for number, raw in enumerate(found):
        wanted = arm.columns(number)
        assert raw.length == arm.LENGTHS[number]
        assert np.array_equal(raw.columns["action"], np.stack(wanted["action"]))
        assert np.array_equal(raw.columns["gripper"][:, 0], wanted["gripper"])
        assert raw.instruction == arm.TASKS[number % 2]
        assert raw.attributes["room"] == f"room {number}"
        assert raw.attributes["good"] == ("false", "true")[number > 0]
        assert raw.attributes["tasks"] == arm.TASKS[number % 2]
        for steps in (range(raw.length), range(0, raw.length, 2), [raw.length - 1], [1, 2]):
            assert arm.close(np.stack(list(raw.pictures(steps))), arm.frames(number)[list(steps)], kind)


@pytest.mark.parametrize(("version", "kind"), ALL)
def test_a_store_is_made_of_them(version: int, kind: str, tmp_path: Path) -> None:
    arm.write(tmp_path / "data", version, kind)
    report, store = arm.made(tmp_path / "data", tmp_path, instruction="note")
    assert (report.kept, report.frames, report.damaged) == (3, sum(arm.LENGTHS), ())
    assert store.fps == arm.FPS
    for number, info in enumerate(store.infos):
        assert info.id == f"arm/episode_{number:06d}"
        assert info.instruction == f"note {number}"
        assert arm.close(store.frames(number), arm.frames(number), kind)
        assert np.array_equal(store.actions(number)[:, :4], np.stack(arm.columns(number)["action"]))


def test_av1_and_older_tables(tmp_path: Path) -> None:
    def older(plan: arm.Plan) -> None:
        del plan["info"]["total_episodes"], plan["info"]["chunks_size"]
        plan["info"]["codebase_version"] = "v2.0"

    arm.write(tmp_path, 2, "video", older)
    path = tmp_path / f"videos/chunk-000/{arm.CAMERA}/episode_000001.mp4"
    large = np.repeat(np.repeat(arm.frames(1), 2, axis=1), 2, axis=2)  # the encoder's least size is 64 x 64
    arm.video(path, large, codec="libsvtav1")
    raw = arm.sound(tmp_path)[1]
    assert arm.close(np.stack(list(raw.pictures(range(5)))), large, "video")


def test_a_shared_video_with_long_groups_of_frames_that_refer_to_later_ones(tmp_path: Path) -> None:
    arm.write(tmp_path, 3, "video")
    path = tmp_path / f"videos/{arm.CAMERA}/chunk-000/file-000.mp4"
    arm.video(path, np.concatenate([arm.frames(n) for n in range(3)]), options={"g": "250", "bf": "3", "crf": "18"})
    for number, raw in enumerate(arm.sound(tmp_path)):
        for steps in (range(raw.length), [raw.length - 1], [0]):
            assert arm.close(np.stack(list(raw.pictures(steps))), arm.frames(number)[list(steps)], "video")


def test_an_own_store_of_videos_is_one(toy_episodes: Any, tmp_path: Path) -> None:
    episodes = [replace(e, frames=e.frames.repeat(3, axis=1).repeat(3, axis=2)) for e in toy_episodes[:3]]
    with EpisodeWriter(tmp_path / "store", fps=12.5, storage=StorageSpec(kind="h264")) as writer:
        for episode in episodes:
            writer.add(episode)
    changes = {"camera": "observation.images.main", "actions": [{"key": "action"}], "action_width": 4}
    store = EpisodeStore(tmp_path / "store")
    for number, raw in enumerate(arm.sound(tmp_path / "store", **changes)):
        assert np.array_equal(np.stack(list(raw.pictures(range(raw.length)))), store.frames(number))


def test_pictures_in_files_of_their_own(tmp_path: Path) -> None:
    def outside(plan: arm.Plan) -> None:
        for number, frames in enumerate(plan["frames"]):
            paths = [f"images/{number}/{step}.png" for step in range(len(frames))]
            for path, frame in zip(paths, frames, strict=True):
                (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "data" / path).write_bytes(arm.png(frame)["bytes"])
            plan["frames"][number] = [{"bytes": None, "path": path} for path in paths]

    arm.write(tmp_path / "data", 2, "image", outside)
    for number, raw in enumerate(arm.sound(tmp_path / "data")):
        assert np.array_equal(np.stack(list(raw.pictures([0, 3]))), arm.frames(number)[[0, 3]])


def test_an_own_store_is_one(toy_episodes: Any, tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "store", fps=12.5) as writer:
        for episode in toy_episodes:
            writer.add(episode)
    actions = [{"key": "action"}]
    changes = {"camera": "observation.images.main", "actions": actions, "action_width": 4}
    found = arm.sound(tmp_path / "store", **changes, image={"height": 32, "width": 32})
    assert len(found) == len(toy_episodes)
    for raw, episode in zip(found, toy_episodes, strict=True):
        assert np.array_equal(np.stack(list(raw.pictures(range(raw.length)))), episode.frames)
        assert np.array_equal(raw.columns["action"], episode.actions)
        assert np.array_equal(raw.columns["observation.state"], episode.state)
        assert (raw.instruction, raw.task) == (episode.instruction, episode.task)
        assert raw.attributes["policy"] == episode.policy


def test_parts_keep_to_a_data_file(tmp_path: Path) -> None:
    arm.write(tmp_path, 3, "image")
    parsed = arm.spec(tmp_path)
    parts = Lerobot(parsed, Files.at(parsed.uri, {}, tmp_path)).parts()
    assert [(part.path, part.first, part.stop) for part in parts] == [
        ("data/chunk-000/file-000.parquet", 0, 2),
        ("data/chunk-000/file-001.parquet", 2, 3),
    ]


def test_pictures_of_a_large_file_are_read_on_not_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roboalign.sources.readers.lerobot_rows.BATCH", 2)
    arm.write(tmp_path, 3, "image")
    began: list[str] = []
    plain = pq.ParquetFile.iter_batches

    def counting(self: Any, *arguments: Any, **options: Any) -> Any:
        began.append(options["columns"][0])
        return plain(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counting)
    parsed = arm.spec(tmp_path)
    reader = Lerobot(parsed, Files.at(parsed.uri, {}, tmp_path))
    for part in reader.parts():
        for number, raw in enumerate(reader.read(part), part.first):
            assert np.array_equal(np.stack(list(raw.pictures(range(5)))), arm.frames(number)[:5])  # type: ignore[union-attr]
    assert began == [arm.CAMERA] * 2  # once a file


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"camera": "action"}, r"camera: the data set has no camera 'action'; its cameras: .*images\.top"),
        ({"camera": "observation.depth"}, "is a depth map"),
        ({"actions": [{"key": "speed"}]}, r"actions\.0\.key: the data set has no vector 'speed'; its vectors: action"),
        ({"actions": [{"key": "note"}]}, "no vector 'note'"),
        (
            {"proprioception": [{"key": "speed"}], "proprioception_width": 2},
            r"proprioception\.0\.key: the data set has no vector 'speed'",
        ),
        (
            {"proprioception": [{"key": "action"}], "proprioception_width": 2},
            r"proprioception_width is 2, but the data set has 4 \(action: 4\)",
        ),
        ({"action_width": 6}, r"action_width is 6, but the data set has 5 \(action: 4, gripper: 1\)"),
    ],
)
def test_a_spec_that_does_not_fit_the_data_set_is_refused(tmp_path: Path, changes: Any, reason: str) -> None:
    arm.write(tmp_path, 2, "image")
    with pytest.raises(SourceError, match=reason):
        arm.read(tmp_path, **changes)


def set_info(**changes: Any) -> Any:
    return lambda text: json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize(
    ("version", "name", "change", "reason"),
    [
        (3, "info.json", None, r"no meta/info\.json; `uri` is the folder that holds"),
        (3, "info.json", lambda text: text[:-20], r"meta/info\.json cannot be read"),
        (3, "info.json", lambda text: "[]", r"meta/info\.json is garbled"),
        (3, "info.json", set_info(fps=0), "garbled .*fps is 0"),
        (3, "info.json", set_info(fps="fast"), "is garbled"),
        (3, "info.json", set_info(features=[1]), "is garbled"),
        (3, "info.json", set_info(codebase_version="v1.6"), "of version v1.6; 2.0, 2.1 and 3.0 can be read"),
        (2, "tasks.jsonl", None, r"no meta/tasks\.jsonl, where its instructions are"),
        (2, "tasks.jsonl", lambda text: text[:-20], "its task_index is 1, which the table of tasks lacks"),
        (2, "episodes.jsonl", None, r"no meta/episodes\.jsonl, where its episodes are listed"),
        (2, "episodes.jsonl", lambda text: "", r"gives no episode|are damaged"),
        (3, "tasks.parquet", None, r"no meta/tasks\.parquet"),
        (3, "tasks.parquet", lambda text: "no table", r"meta/tasks\.parquet cannot be read"),
    ],
)
def test_a_description_that_cannot_be_used(version: int, name: str, change: Any, reason: str, tmp_path: Path) -> None:
    arm.write(tmp_path / "data", version, "image")
    path = tmp_path / "data/meta" / name
    text = path.read_bytes().decode("latin-1")
    path.unlink()
    if change:
        path.write_text(change(text), encoding="latin-1")
    with pytest.raises(SourceError, match=reason):
        arm.made(tmp_path / "data", tmp_path, tolerance=0.0)


def test_no_index_at_all(tmp_path: Path) -> None:
    arm.write(tmp_path, 3, "image")
    for path in (tmp_path / "meta/episodes").rglob("*.parquet"):
        path.unlink()
    with pytest.raises(SourceError, match=r"no meta/episodes/chunk-000/file-000\.parquet"):
        arm.read(tmp_path)


def test_vectors_of_other_types(tmp_path: Path) -> None:
    arm.write(tmp_path, 2, "image")
    path = tmp_path / "data/chunk-000/episode_000001.parquet"
    whole = pq.read_table(path)
    values = np.stack(arm.columns(1)["action"])
    flat = pa.array(values.reshape(-1).astype(np.float64))
    for column in (
        pa.FixedSizeListArray.from_arrays(flat, 4),
        pa.LargeListArray.from_arrays(np.arange(0, 21, 4), flat),
        pa.ListArray.from_arrays(np.arange(0, 21, 4, dtype=np.int32), flat),
    ):
        place = whole.column_names.index("action")
        pq.write_table(whole.set_column(place, "action", column), path, row_group_size=2)
        raw = arm.sound(tmp_path)[1]
        assert np.array_equal(raw.columns["action"], values)
        assert np.array_equal(np.stack(list(raw.pictures([0, 2, 4]))), arm.frames(1)[[0, 2, 4]])
