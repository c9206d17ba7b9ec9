import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rlds_files as toy
import yaml

from roboalign.sources.errors import SourceError
from roboalign.sources.readers.convert import convert
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import RawEpisode
from roboalign.sources.readers.rlds import Rlds
from roboalign.types import Episode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write(tmp_path_factory.mktemp("rlds"), [toy.record(n) for n in range(3)])


def test_episodes_come_back_as_they_were_written(whole: Path) -> None:
    for number, raw in enumerate(toy.sound(whole)):
        wanted = toy.record(number)
        assert raw.name == f"train-00000-of-00001#{number}"
        assert raw.length == toy.LENGTHS[number]
        assert np.array_equal(np.stack(list(raw.images(range(raw.length)))), toy.frames(number))
        assert np.array_equal(next(raw.images([3])), toy.frames(number)[3])
        assert np.array_equal(raw.columns["action/world_vector"], wanted["steps/action/world_vector"])
        assert np.array_equal(raw.columns["action/gripper"][:, 0], wanted["steps/action/gripper"])
        assert np.array_equal(raw.columns["action/terminate"], wanted["steps/action/terminate"])
        assert raw.instruction == "put the cup on the plate"
        assert raw.attributes == {
            "episode_metadata/file_path": f"lab/kitchen{number}/traj{number}/out.npy",
            "episode_metadata/robot": str(number - 1),
            "episode_metadata/good": ("false", "true")[number > 0],
            "episode_metadata/weight": str(0.5 * number),
        }


def test_a_store_is_made_of_them(whole: Path, tmp_path: Path) -> None:
    split = {"scene": "episode_metadata/file_path", "scene_pattern": "^(.*)/traj"}
    report, store = toy.made(whole, tmp_path, split=split)
    assert (report.kept, report.frames, report.damaged) == (3, sum(toy.LENGTHS), ())
    assert store.fps == 3
    for number, info in enumerate(store.infos):
        episode = store.read(number)
        assert info.id == f"toy/train-00000-of-00001#{number}"
        assert np.array_equal(episode.frames, toy.frames(number))
        assert episode.actions.shape == (toy.LENGTHS[number], 6)
        assert np.array_equal(episode.actions[:, 4:], toy.record(number)["steps/action/terminate"])
    assert len({info.scene for info in store.infos}) == 3


def test_jpeg_and_an_episodes_own_instruction(tmp_path: Path) -> None:
    records = [toy.record(n, "JPEG") for n in range(3)]
    for number, record in enumerate(records):
        record["episode_metadata/task"] = [f"task {number}".encode()]
    toy.write(tmp_path, records, toy.features(metadata={"task": {"text": {}}}))
    for number, raw in enumerate(toy.sound(tmp_path, instruction="episode_metadata/task")):
        assert raw.instruction == f"task {number}"
        images = np.stack(list(raw.images(range(raw.length)))).astype(int)
        assert np.abs(images - toy.frames(number)).mean() < 4


def test_other_ways_to_store_a_tensor(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records, wanted = [], []
    for number in range(3):
        length = toy.LENGTHS[number]
        values = rng.normal(size=(length, 3))
        flat = [toy.frames(number).reshape(-1)]
        record = toy.record(number) | {
            "steps/packed": [each.astype("<f8").tobytes() for each in values],
            "steps/small": [zlib.compress(each.astype("<f4").tobytes()) for each in values],
            "steps/nested/ragged_flat_values": values.astype(np.float32),
            "steps/nested/ragged_row_lengths_0": np.full(length, 3),
            "steps/raw": flat[0],
            "steps/codes": np.asarray([[*map(ord, "open it"), 0, 0]] * length),
        }
        records.append(record)
        wanted.append(values)
    more = {
        "packed": toy.tensor("float64", 3, encoding="bytes"),
        "small": toy.tensor("float32", 3, encoding="zlib"),
        "nested": {"sequence": {"feature": toy.tensor("float32"), "length": "-1"}},
        "raw": toy.tensor("uint8", 16, 24, 3),
        "codes": toy.tensor("int32", 9),
    }
    toy.write(tmp_path, records, toy.features(more))
    actions = [{"key": "packed"}, {"key": "small"}, {"key": "nested"}]
    found = toy.sound(tmp_path, actions=actions, action_width=9, camera="raw", instruction="codes")
    for number, raw in enumerate(found):
        for key in ("packed", "small", "nested"):
            assert np.array_equal(raw.columns[key], wanted[number].astype(np.float32))
        assert np.array_equal(next(raw.images([2])), toy.frames(number)[2])
        assert raw.instruction == "open it"


def test_only_the_wanted_images_are_decoded(tmp_path: Path) -> None:
    records = [toy.record(n) for n in range(3)]
    for record in records:
        images = list(record["steps/observation/image"])
        images[1] = images[3] = b"no image at all"
        record["steps/observation/image"] = images
    toy.write(tmp_path, records)
    for number, raw in enumerate(toy.sound(tmp_path)):
        kept = range(0, raw.length, 2)
        assert np.array_equal(np.stack(list(raw.images(kept))), toy.frames(number)[kept])


def test_a_version_folder_is_found_and_two_are_named(tmp_path: Path) -> None:
    toy.write(tmp_path / "1.0.0", [toy.record(0)])
    assert [each.name for each in toy.sound(tmp_path)] == ["train-00000-of-00001#0"]
    toy.write(tmp_path / "1.1.0", [toy.record(0)])
    with pytest.raises(SourceError, match=r"several versions: 1\.0\.0, 1\.1\.0"):
        toy.opened(tmp_path)


def test_splits_and_shards_are_those_of_the_index(tmp_path: Path) -> None:
    toy.write(tmp_path, [toy.record(0)])
    splits: list[dict[str, object]] = []
    for split, lengths, template in (
        ("train", (1, 1), None),
        ("val", (1,), "{SPLIT}/{DATASET}.{FILEFORMAT}-{SHARD_INDEX}-of-{NUM_SHARDS}"),
    ):
        described: dict[str, object] = {"name": split, "shardLengths": [str(each) for each in lengths]}
        splits.append(described | ({"filepathTemplate": template} if template else {}))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"name": "toy", "splits": splits}))
    trained = [f"toy-train.tfrecord-{n:05d}-of-00002" for n in range(2)]
    assert [part.path for part in toy.opened(tmp_path).parts()] == trained
    assert [part.path for part in toy.opened(tmp_path, subset="*").parts()] == [
        *trained,
        "val/toy.tfrecord-00000-of-00001",
    ]
    with pytest.raises(SourceError, match=r"subset 'test' has no files; .* train \(2\), val \(1\)"):
        toy.opened(tmp_path, subset="test")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"camera": "observation/wrist"},
            r"camera: the data set has no 'observation/wrist'; available: .*observation/im",
        ),
        ({"camera": "observation/depth"}, "camera 'observation/depth' is not a colour image: tensor"),
        ({"camera": "language_instruction"}, "is not a colour image"),
        ({"instruction": "task"}, "instruction: the data set has no 'task'"),
        ({"instruction": "is_first"}, "instruction 'is_first' is not text: tensor"),
        ({"actions": [{"key": "action/speed"}]}, r"actions\.0\.key: the data set has no 'action/speed'"),
        (
            {"actions": [{"key": "observation/image"}]},
            r"actions\.0\.key 'observation/image' is not a vector of numbers",
        ),
        (
            {"action_width": 7},
            r"action_width is 7, but features\.json has 6 \(action/world_vector: 3, action/gripper: 1",
        ),
        ({"split": {"scene": "place"}}, r"split\.scene: the data set has no 'place'; available: .*file_path"),
        ({"filter": {"attributes": {"lab": "x"}}}, r"filter\.attributes: the data set has no 'lab'"),
    ],
)
def test_a_spec_that_does_not_fit_the_data_set_is_refused(whole: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        toy.opened(whole, **changes)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("features.json", None, r"no features\.json, which is needed"),
        ("features.json", "{", r"features\.json cannot be read"),
        ("features.json", "[" * 100_000, r"features\.json cannot be read"),
        ("features.json", '{"featuresDict": {"features": {}}}', "does not describe RLDS"),
        ("features.json", '{"type": "FeaturesDict", "content": "{}"}', "does not describe RLDS"),
        ("dataset_info.json", None, r"no dataset_info\.json; copy it"),
        ("dataset_info.json", "\xff", "cannot be read|is not a dataset_info"),
        ("dataset_info.json", "[]", r"is not a dataset_info\.json"),
        (
            "dataset_info.json",
            '{"name": "toy", "splits": [{"name": "train", "shardLengths": ["x"]}]}',
            "is not a dataset_i",
        ),
        ("dataset_info.json", '{"name": "toy", "splits": [{"name": "train"}]}', r"has no files; .*train \(0\)"),
        ("dataset_info.json", '{"name": "toy", "fileFormat": "array_record", "splits": []}', "format array_record"),
    ],
)
def test_a_description_that_cannot_be_used(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    toy.write(tmp_path, [toy.record(0)])
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(SourceError, match=reason):
        toy.opened(tmp_path)


def test_the_shipped_spec_of_rt1_reads_its_layout(tmp_path: Path) -> None:
    widths = {
        "world_vector": 3, "rotation_delta": 3, "gripper_closedness_action": 1, "base_displacement_vector": 2,
        "base_displacement_vertical_rotation": 1, "terminate_episode": 3,
    }  # fmt: skip
    rng = np.random.default_rng(0)
    values = {key: rng.normal(size=(5, width)).astype(np.float32) for key, width in widths.items()}
    values["terminate_episode"] = np.asarray([[0, 1, 0]] * 4 + [[1, 0, 0]])
    record = {f"steps/action/{key}": value for key, value in values.items()}
    record["steps/observation/image"] = [toy.image(each, "JPEG") for each in toy.frames(1)]
    record["steps/observation/natural_language_instruction"] = [b"pick coke can"] * 5
    action = {key: toy.tensor("float32", width) for key, width in widths.items()}
    action["terminate_episode"] = toy.tensor("int32", 3)
    seen = toy.group(image=toy.image_feature(16, 24, 3), natural_language_instruction={"text": {}})
    steps = {"sequence": {"feature": toy.group(observation=seen, action=toy.group(**action)), "length": "-1"}}
    toy.write(tmp_path, [record], toy.group(steps=steps))
    shipped = yaml.safe_load((Path(__file__).parents[3] / "specs/sources/rt1.yaml").read_text())
    changes = {"uri": str(tmp_path), "image": {"height": 16, "width": 24}, "length": 5}
    spec = toy.SPEC.validate_python(shipped | changes)
    reader = Rlds(spec, Files.at(spec.uri, {}, tmp_path))
    (raw,) = reader.read(reader.parts()[0])
    assert isinstance(raw, RawEpisode)
    episode = convert(raw, spec, "rt1")
    assert isinstance(episode, Episode)
    assert episode.instruction == "pick coke can"
    assert episode.actions.shape == (5, 13)
    assert np.array_equal(episode.actions, np.concatenate(list(values.values()), axis=1).astype(np.float32))
