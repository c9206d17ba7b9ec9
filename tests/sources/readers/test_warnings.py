"""Redundant metadata that contradicts the data warns; what is needed and contradicted damages that episode alone."""

import io
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

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
from PIL import Image
from reading import only, read_all

from roboalign.sources.builder import build_reader
from roboalign.sources.errors import SourceError
from roboalign.sources.readers.convert import convert
from roboalign.sources.readers.lerobot import OTHER_STAMPS
from roboalign.sources.readers.lerobot_video import MORE_FRAMES, OTHER_TIMES
from roboalign.sources.readers.libero import OTHER_LENGTH
from roboalign.sources.readers.reader import SEVERAL_INSTRUCTIONS, RawEpisode
from roboalign.sources.readers.rlds_values import OTHER_SIZE
from roboalign.sources.spec import RecordedSpec
from roboalign.types import Episode

LIST = "meta/episodes/chunk-000/file-000.parquet"


def warnings(spec: RecordedSpec, cache: Path) -> list[list[str]]:
    """The warnings of each episode; all have to be kept."""
    reader = build_reader(spec, cache)
    found = []
    for part in reader.parts():
        for raw in reader.read(part):
            assert isinstance(raw, RawEpisode), raw
            result = convert(raw, spec, "source")
            assert isinstance(result, Episode), result
            found.append(raw.warnings)
    return found


def jitter(plan: arm.Plan) -> None:
    """The clock of the camera instead of frame times."""
    for data in plan["data"]:
        data["timestamp"] = data["timestamp"] + np.linspace(0, 0.06, len(data["index"])).astype(np.float32)


def no_stamps(plan: arm.Plan) -> None:
    for data in plan["data"]:
        del data["timestamp"], data["frame_index"]


@pytest.mark.parametrize("version", [2, 3])
def test_hardware_timestamps(tmp_path: Path, version: int) -> None:
    arm.write(tmp_path / "data", version, "video", jitter)
    assert warnings(arm.spec(tmp_path / "data"), tmp_path) == [[OTHER_STAMPS]] * 3
    report, store = arm.made(tmp_path / "data", tmp_path)
    assert report.warnings == ((OTHER_STAMPS, 3),)
    assert json.loads((tmp_path / "store/meta/quarantine.json").read_text())["warnings"] == {OTHER_STAMPS: 3}
    for number in range(3):
        assert arm.close(store.frames(number), arm.frames(number), "video")


@pytest.mark.parametrize("version", [2, 3])
def test_columns_that_reading_does_not_need(tmp_path: Path, version: int) -> None:
    arm.write(tmp_path / "data", version, "video", no_stamps)
    assert warnings(arm.spec(tmp_path / "data"), tmp_path) == [[]] * 3


def test_a_rate_that_is_no_whole_number(tmp_path: Path) -> None:
    """29.97 in info.json, 30000/1001 in the videos."""

    def spoil(plan: arm.Plan) -> None:
        plan["info"]["fps"] = 29.97
        for data in plan["data"]:
            data["timestamp"] = (np.arange(len(data["index"])) / 29.97).astype(np.float32)

    arm.write(tmp_path / "data", 2, "video", spoil)
    for number in range(3):
        path = tmp_path / f"data/videos/chunk-000/{arm.CAMERA}/episode_{number:06d}.mp4"
        arm.video(path, arm.frames(number), rate=Fraction(30000, 1001))
    assert warnings(arm.spec(tmp_path / "data"), tmp_path) == [[], [], []]
    report, store = arm.made(tmp_path / "data", tmp_path)
    assert (report.kept, store.fps) == (3, 29.97)
    assert all(arm.close(store.frames(number), arm.frames(number), "video") for number in range(3))


def test_frames_after_the_last_row(tmp_path: Path) -> None:
    def longer(plan: arm.Plan) -> None:
        plan["frames"][1] = np.concatenate([plan["frames"][1], plan["frames"][0]])

    arm.write(tmp_path / "data", 2, "video", longer)
    assert warnings(arm.spec(tmp_path / "data"), tmp_path) == [[], [MORE_FRAMES], []]
    _, store = arm.made(tmp_path / "data", tmp_path)
    assert arm.close(store.frames(1), arm.frames(1), "video")


def test_a_video_of_another_rate_with_a_frame_for_each_row(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 2)
    path = tmp_path / "data/videos/chunk-000" / arm.CAMERA / "episode_000001.mp4"
    arm.video(path, arm.frames(1), rate=2 * arm.FPS)
    assert warnings(arm.spec(tmp_path / "data"), tmp_path) == [[], [OTHER_TIMES], []]


def edit_list(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    table = pq.read_table(folder / LIST)
    columns = {name: table.column(name) for name in table.column_names}
    edit(columns)
    pq.write_table(pa.table(columns), folder / LIST)


END = f"videos/{arm.CAMERA}/to_timestamp"


@pytest.mark.parametrize(
    "edit",
    [
        lambda columns: columns.pop(END),
        lambda columns: columns.update({END: pa.array([None, None], pa.float64())}),
        lambda columns: columns.update({END: pa.array([np.nan, np.nan])}),
        lambda columns: columns.pop("tasks"),
        lambda columns: columns.update({"recorded": pa.array([1, 2], pa.timestamp("ns"))}),
        lambda columns: columns.update({"words": pa.array([b"\xff", b"a"]).cast(pa.binary()).view(pa.string())}),
        lambda columns: columns.update({"videos/other/file_index": pa.array(["x", None])}),
    ],
)
def test_a_list_of_episodes_with_odd_columns_beside_those_that_are_needed(tmp_path: Path, edit: Any) -> None:
    arm.write(tmp_path / "data", 3)
    edit_list(tmp_path / "data", edit)
    assert warnings(arm.spec(tmp_path / "data"), tmp_path) == [[]] * 3


def test_an_end_that_contradicts_the_length_damages_that_episode(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3)
    edit_list(tmp_path / "data", lambda columns: columns.update({END: pa.array([0.6, 3.0])}))
    episodes, damaged, _ = read_all(arm.spec(tmp_path / "data"), tmp_path)
    assert len(episodes) == 2
    assert damaged[0].reason == "its video lasts from 0.6 to 3 s, which is not 5 frames at 10 a second"


@pytest.mark.parametrize(
    "change",
    [
        {"total_episodes": "many"}, {"total_episodes": None}, {"chunks_size": "a"}, {"splits": 3}, {"robot_type": [1]},
    ],
)  # fmt: skip
def test_odd_values_that_reading_does_not_need(tmp_path: Path, change: dict[str, Any]) -> None:
    def spoil(plan: arm.Plan) -> None:
        plan["info"].update(change)
        plan["info"]["features"] |= {"odd": None, "other": {"dtype": 3, "shape": "x"}}

    arm.write(tmp_path / "data", 2, "image", spoil)
    assert warnings(arm.spec(tmp_path / "data"), tmp_path) == [[]] * 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fps": 1e-300}, "fps is 1e-300, not 0.01 to 1000"),
        ({"fps": 1e300}, "fps is 1e+300, not 0.01 to 1000"),
        ({"fps": float("nan")}, "fps is nan, not 0.01 to 1000"),
    ],
)
def test_rates_are_bounded(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    arm.write(tmp_path / "data", 2, "image", lambda plan: plan["info"].update(change))
    with pytest.raises(SourceError, match=r"meta/info\.json is garbled") as error:
        arm.read(tmp_path / "data")
    assert str(error.value) == f"{tmp_path / 'data'}: meta/info.json is garbled (ValueError: {reason})"


def test_counts_are_compared_without_being_counted_out(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 2, "image", lambda plan: plan["info"].update(total_episodes=100_000_000))
    episodes, damaged, _ = read_all(arm.spec(tmp_path / "data"), tmp_path)
    assert (len(episodes), only(damaged).lost) == (3, 99_999_997)
    assert only(damaged).reason.endswith("are not listed: 3, 4, 5, 6, 7, …")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("data/{episode_index:02000000000d}", "is not a path template"),
        ("data/{episode_index!r}", "is not a path template"),
        ("data/{episode_index.__class__}", "is not a path template"),
        ("data/{other}", "has the unknown placeholder {other}"),
        ("../{episode_index}", "its data is the file '../1', which is outside of the data set"),
        ("/{episode_index}", "its data is the file '/1', which is outside of the data set"),
    ],
)
def test_templates_of_paths_know_few_placeholders(tmp_path: Path, template: str, reason: str) -> None:
    arm.write(tmp_path / "data", 2, "image", lambda plan: plan["info"].update(data_path=template))
    episodes, damaged, _ = read_all(arm.spec(tmp_path / "data"), tmp_path)
    assert not episodes
    assert reason in damaged[1].reason


@pytest.mark.parametrize("version", [2, 3])
def test_a_task_that_changes_within_an_episode(tmp_path: Path, version: int) -> None:
    def spoil(plan: arm.Plan) -> None:
        plan["data"][1]["task_index"] = np.asarray([1, 1, 1, 0, 0])

    arm.write(tmp_path / "data", version, "image", spoil)
    assert warnings(arm.spec(tmp_path / "data"), tmp_path) == [[], [SEVERAL_INSTRUCTIONS], []]
    assert read_all(arm.spec(tmp_path / "data"), tmp_path)[0][1].instruction == arm.TASKS[1]


def test_a_text_column_that_changes_within_an_episode(tmp_path: Path) -> None:
    def spoil(plan: arm.Plan) -> None:
        plan["data"][2]["note"] = [*["open"] * 4, *["close"] * 3]

    arm.write(tmp_path / "data", 3, "image", spoil)
    assert warnings(arm.spec(tmp_path / "data", instruction="note"), tmp_path) == [[], [], [SEVERAL_INSTRUCTIONS]]


def test_rlds_declares_another_size_and_several_instructions(tmp_path: Path) -> None:
    described = toy.features()
    described["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]["observation"][
        "featuresDict"
    ]["features"]["image"] = toy.image_feature(99, 24, 3)
    toy.write(tmp_path / "data", [toy.record(number) for number in range(3)], described)
    spec = toy.SPEC.validate_python(toy.spec(tmp_path / "data"))
    assert warnings(spec, tmp_path) == [[SEVERAL_INSTRUCTIONS, OTHER_SIZE]] * 3


def test_rlds_reads_no_shard_outside_its_folder(tmp_path: Path) -> None:
    toy.write(tmp_path / "data", [toy.record(0)])
    toy.write(tmp_path / "other", [toy.record(1)])
    for template in ("../other/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", f"{tmp_path}/other/x"):
        (tmp_path / "data/dataset_info.json").write_text(json.dumps(toy.info((1,), filepathTemplate=template)))
        with pytest.raises(SourceError) as error:
            toy.read(tmp_path / "data")
        assert str(error.value).startswith("dataset_info.json: a shard of the split 'train' is the file '")
        assert str(error.value).endswith("which is outside of the data set")


def test_rlds_shapes_are_bounded(tmp_path: Path) -> None:
    extra = {"huge": toy.tensor("float32", 2**32, 2**32), "deep": toy.tensor("uint8", 2**40, 3, 3)}
    toy.write(tmp_path / "data", [toy.record(0)], toy.features(extra))
    assert len(toy.sound(tmp_path / "data")) == 1
    with pytest.raises(SourceError, match=r"actions\.0\.key 'huge' is not a vector of numbers"):
        toy.read(tmp_path / "data", actions=[{"key": "huge"}], action_width=1)


def test_robomimic_tells_another_length(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        file["data/demo_1"].attrs["num_samples"] = 3
        file["data/demo_2"].attrs["num_samples"] = "many"
        file["data"].attrs["odd"] = h5py.Empty("f4")

    test_libero.write(tmp_path / "data/a.hdf5", edit=edit)
    assert warnings(test_libero.spec(tmp_path / "data"), tmp_path) == [[], [OTHER_LENGTH], [OTHER_LENGTH]]


def test_calvin_does_not_need_the_names_of_tasks_nor_scenes(tmp_path: Path) -> None:
    def edit(found: dict[str, Any]) -> None:
        found["language"]["task"] = ["x"]

    test_calvin.write(tmp_path / "data")
    test_calvin.annotated(edit)(tmp_path / "data")
    (tmp_path / "data/training/scene_info.npy").write_bytes(b"garbage")
    assert warnings(test_calvin.spec(tmp_path / "data"), tmp_path) == [[]] * 3


def test_a_folder_of_videos_with_more_frames_than_actions(tmp_path: Path) -> None:
    def edit(folder: Path, lines: list[dict[str, Any]]) -> None:
        lines[0]["actions"] = lines[0]["actions"][:5]

    test_videos.write(tmp_path / "data", edit)
    found = warnings(test_videos.spec(tmp_path / "data"), tmp_path)
    assert found == [["its video has frames after its last action; they are left out"], [], []]


def test_images_come_upright_by_their_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    def spoil(plan: arm.Plan) -> None:
        for number, frames in enumerate(plan["frames"]):
            encoded = []
            for frame in frames:
                stream = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(np.rot90(frame))).save(stream, "PNG", exif=exif)
                encoded.append({"bytes": stream.getvalue(), "path": None})
            plan["frames"][number] = encoded

    arm.write(tmp_path / "data", 3, "image", spoil)
    for number, episode in enumerate(read_all(arm.spec(tmp_path / "data"), tmp_path)[0]):
        np.testing.assert_array_equal(episode.frames, arm.frames(number))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"codebase_version": "v1.6"},
            "{} is a LeRobotDataset of version v1.6; 2.0, 2.1 and 3.0 can be read, "
            "and LeRobot's own scripts convert older ones",
        ),
        ({"features": 3}, "{}: meta/info.json is garbled (AttributeError: 'int' object has no attribute 'items')"),
    ],
)
def test_errors_are_not_wrapped_in_each_other(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arm.write(tmp_path / "data", 2, "image", lambda plan: plan["info"].update(change))
    with pytest.raises(SourceError) as error:
        arm.read(tmp_path / "data")
    assert str(error.value) == message.format(tmp_path / "data")
    assert not isinstance(error.value, ValueError)


def test_other_formats_of_tfds_are_named_once(tmp_path: Path) -> None:
    toy.write(tmp_path / "data", [toy.record(0)])
    (tmp_path / "data/dataset_info.json").write_text(json.dumps(toy.info((1,)) | {"fileFormat": "array_record"}))
    with pytest.raises(SourceError) as error:
        toy.read(tmp_path / "data")
    assert str(error.value) == (
        f"{tmp_path / 'data'}: dataset_info.json: its files are of format array_record; only tfrecord can be read"
    )


def test_a_video_with_too_few_frames_is_named_once(tmp_path: Path) -> None:
    def fewer(plan: arm.Plan) -> None:
        plan["frames"][1] = plan["frames"][1][:-1]

    arm.write(tmp_path / "data", 2, "video", fewer)
    path = f"videos/chunk-000/{arm.CAMERA}/episode_000001.mp4"
    assert only(read_all(arm.spec(tmp_path / "data"), tmp_path)[1]).reason == f"its video {path} has 4 frames, not 5"
