"""LIBERO's layout: files written by h5py come back as they were, and ten kinds of damage are named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from reading import lose, mutilated, only, read_all, served

from roboalign.sources.errors import SourceError
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.libero import Libero
from roboalign.sources.readers.reader import Part
from roboalign.sources.readers.spec import LiberoSpec

LENGTH, SIZE = 7, 32
Edit = Callable[[Any], None]


def spec(folder: Path | str, **changes: Any) -> LiberoSpec:
    fields: dict[str, Any] = {
        "kind": "libero",
        "uri": str(folder),
        "camera": "obs/agentview_rgb",
        "actions": [
            {"key": "actions", "columns": [0, 1, 2, 3, 4, 5]},
            {"key": "actions", "columns": [6], "skipped": "last"},
        ],
        "action_width": 7,
        "image": {"height": SIZE, "width": SIZE},
        "length": 2,
    }
    return LiberoSpec.model_validate(fields | changes)


def images(number: int, length: int = LENGTH) -> np.ndarray[Any, Any]:
    return np.random.default_rng(number).integers(0, 256, (length, SIZE, SIZE, 3), np.uint8)


def actions(number: int, length: int = LENGTH) -> np.ndarray[Any, Any]:
    return np.random.default_rng(100 + number).normal(size=(length, 7))


def write(path: Path, demos: int = 3, edit: Edit | None = None, instruction: Any = "put the bowl on the plate") -> None:
    """A file as LIBERO writes it: contiguous images, float64 actions, attributes with JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"problem_name": "p", "language_instruction": instruction})
        data.attrs["env_args"] = json.dumps({"type": 1, "env_kwargs": {"control_freq": 20}})
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["num_demos"] = demos
        for number in range(demos):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = LENGTH
            demo.attrs["init_state"] = np.zeros(50)
            demo["obs/agentview_rgb"] = images(number)
            demo["obs/eye_in_hand_rgb"] = images(1000 + number)
            demo["actions"] = actions(number)
            demo["dones"] = np.zeros(LENGTH, np.uint8)
        if edit:
            edit(file)


def test_a_file_comes_back_as_written(tmp_path: Path) -> None:
    write(tmp_path / "libero_goal/put_the_bowl_on_the_plate_demo.hdf5", demos=12)
    episodes, damaged, left_out = read_all(spec(tmp_path), tmp_path)
    assert not damaged
    assert not left_out
    assert [episode.id.rpartition("#")[2] for episode in episodes] == [f"demo_{n}" for n in range(12)]
    for number, episode in enumerate(episodes):
        # The image of a step shows what its action led to, so the next step's action leads on from it.
        np.testing.assert_array_equal(episode.frames, images(number)[:-1, ::-1])
        np.testing.assert_array_equal(episode.actions, actions(number)[1:].astype(np.float32))
        assert episode.instruction == "put the bowl on the plate"
        assert episode.task == "put_the_bowl_on_the_plate"


def test_images_before_their_action_and_upright_ones(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", demos=1)
    (episode,), _, _ = read_all(spec(tmp_path, after_action=False, upside_down=False), tmp_path)
    np.testing.assert_array_equal(episode.frames, images(0))
    np.testing.assert_array_equal(episode.actions, actions(0).astype(np.float32))


def test_a_stride_reads_only_its_frames_and_joins_the_actions(tmp_path: Path) -> None:
    def compressed(file: Any) -> None:
        del file["data/demo_0/obs/agentview_rgb"]
        file.create_dataset(
            "data/demo_0/obs/agentview_rgb", data=images(0), chunks=(2, SIZE, SIZE, 3), compression="gzip"
        )

    write(tmp_path / "a.hdf5", demos=1, edit=compressed)
    (episode,), _, _ = read_all(spec(tmp_path, stride=4), tmp_path)
    np.testing.assert_array_equal(episode.frames, images(0)[[0, 4], ::-1])
    sums = np.stack([actions(0)[1:5, :6].sum(0), actions(0)[5:7, :6].sum(0)])
    np.testing.assert_allclose(episode.actions[:, :6], sums, atol=1e-6)
    np.testing.assert_allclose(episode.actions[:, 6], actions(0)[[4, 6], 6], atol=1e-6)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (["open", "the", "drawer"], "open the drawer"),
        (list("open it"), "open it"),
        ('"open the drawer"', "open the drawer"),
    ],
)
def test_all_ways_in_which_libero_stores_instructions(tmp_path: Path, stored: Any, read: str) -> None:
    write(tmp_path / "a.hdf5", demos=1, instruction=stored)
    assert [episode.instruction for episode in read_all(spec(tmp_path), tmp_path)[0]] == [read]


def test_an_instruction_of_each_demonstration(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "close the door", "objects": [{"name": "x"}]})

    write(tmp_path / "a.hdf5", demos=1, edit=edit)
    (episode,), _, _ = read_all(spec(tmp_path, instruction="ep_meta/lang"), tmp_path)
    assert episode.instruction == "close the door"


def test_folders_are_chosen_by_attribute(tmp_path: Path) -> None:
    for folder in ("libero_goal", "libero_90"):
        write(tmp_path / folder / "a_demo.hdf5", demos=2)
    chosen = {"attributes": {"folder": "libero_(goal|10)$"}}
    episodes, damaged, left_out = read_all(spec(tmp_path, filter=chosen), tmp_path)
    assert {episode.id.split("/")[1] for episode in episodes} == {"libero_goal"}
    assert [each.reason for each in left_out] == ["filter.attributes.folder"] * 2
    assert not damaged


def test_few_files_are_divided_and_many_are_not(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", demos=1)

    def many(file: h5py.File) -> None:
        for number in range(1, 120):
            file["data"].create_group(f"demo_{number}")

    write(tmp_path / "b.hdf5", demos=1, edit=many)
    reader = Libero(spec(tmp_path), Files.at(str(tmp_path), {}, tmp_path))
    assert reader.parts() == [
        Part("a.hdf5", 0, 50), Part("b.hdf5", 0, 50), Part("b.hdf5", 50, 100), Part("b.hdf5", 100, 150),
    ]  # fmt: skip
    for number in range(20):
        (tmp_path / f"c{number}.h5").write_bytes((tmp_path / "a.hdf5").read_bytes())
    assert reader.parts()[0] == Part("a.hdf5")
    assert len(reader.parts()) == 22


def test_a_place_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"contains no file \*\*/\*\.hdf5"):
        read_all(spec(tmp_path), tmp_path)
    with pytest.raises(SourceError, match="does not exist"):
        read_all(spec(tmp_path / "absent"), tmp_path)


def test_remote_files_are_read_in_place(tmp_path: Path) -> None:
    write(tmp_path / "data/libero_goal/a.hdf5", demos=2)
    with served(tmp_path) as address:
        episodes, damaged, _ = read_all(spec(f"{address}/data"), tmp_path / "cache")
    assert [episode.id for episode in episodes] == [f"source/libero_goal/a.hdf5#demo_{number}" for number in range(2)]
    np.testing.assert_array_equal(episodes[1].frames, images(1)[:-1, ::-1])
    assert not damaged


def replace(path: str, values: Any) -> Edit:
    """Put other values in place of a data set, or leave it out."""

    def edit(file: Any) -> None:
        del file[path]
        if values is not None:
            file[path] = values

    return edit


def with_nan(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values[3, 2] = np.nan
    return values


PICTURES, ACTIONS = "data/demo_1/obs/agentview_rgb", "data/demo_1/actions"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        pytest.param(replace(PICTURES, None), "no camera 'obs/agentview_rgb'; available: actions, dones", id="no view"),
        pytest.param(replace(PICTURES, images(1)[..., 0]), r"is uint8 \(32, 32\), not uint8", id="grey images"),
        pytest.param(replace(PICTURES, images(1) / np.float32(255)), "is float32", id="images of floats"),
        pytest.param(replace(ACTIONS, with_nan(actions(1))), "is NaN or infinite at step 2", id="NaN"),
        pytest.param(replace(ACTIONS, actions(1)[:, :6]), "has width 6, no column 6", id="narrow actions"),
        pytest.param(replace(ACTIONS, actions(1, 5)), "'actions' has 5 rows, but there are 7", id="few actions"),
        pytest.param(replace(ACTIONS, None), "no action column 'actions'", id="no actions"),
        pytest.param(replace(ACTIONS, np.full((LENGTH, 7), b"x")), "contains text, not numbers", id="text"),
        pytest.param(replace(PICTURES, images(1, 0)), "it is empty: it has no steps", id="no steps"),
        pytest.param(replace("data/demo_1", 3.0), "it is not a group", id="no group"),
        pytest.param(replace("data/demo_1", None), None, id="left away whole"),
    ],
)  # fmt: skip
def test_a_damaged_demonstration_is_named_and_the_others_are_read(
    tmp_path: Path, edit: Edit, reason: str | None
) -> None:
    write(tmp_path / "a.hdf5", edit=edit)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert [episode.id for episode in episodes] == ["source/a.hdf5#demo_0", "source/a.hdf5#demo_2"]
    if reason is None:
        assert not damaged
        return
    assert only(damaged).name == "a.hdf5#demo_1"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(only(damaged).reason)


def test_an_empty_demonstration(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        for name in ("obs/agentview_rgb", "actions"):
            values = file[f"data/demo_1/{name}"][:0]
            del file[f"data/demo_1/{name}"]
            file[f"data/demo_1/{name}"] = values
        file["data/demo_1"].attrs["num_samples"] = 0

    write(tmp_path / "a.hdf5", edit=edit)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert only(damaged).reason == "it is empty: it has no steps"
    assert len(episodes) == 2


def test_no_instruction(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", demos=1, instruction=" ")
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert not episodes
    assert only(damaged).reason == (
        "its instruction 'problem_info/language_instruction' is missing or empty; "
        "`filter: {instruction: .}` leaves such episodes out"
    )


def test_another_rate(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", demos=1)
    assert (
        "recorded at 20 frames per second, but fps is 10"
        in only(read_all(spec(tmp_path, fps=10.0), tmp_path)[1]).reason
    )


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20_000])


def overwrite(path: Path) -> None:
    path.write_bytes(b"this is no HDF5 file\n" * 500)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_layout(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["trajectories"] = np.zeros(3)


def no_demonstrations(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("data")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "not an HDF5 file, or a truncated one"),
        (overwrite, "not an HDF5 file, or a truncated one"),
        (empty, "not an HDF5 file, or a truncated one"),
        (other_layout, "no group 'data' with demonstrations; available: trajectories"),
        (no_demonstrations, "its group 'data' is empty"),
        (Path.unlink, "the file is missing"),
    ],
)
def test_a_damaged_file_is_named_and_the_others_are_read(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.hdf5", demos=2)
    reader = Libero(spec(tmp_path), Files.at(str(tmp_path), {}, tmp_path))
    parts = reader.parts()
    damage(tmp_path / "a.hdf5")
    found = [list(reader.read(part)) for part in parts]
    damaged = only(found[0])
    assert (damaged.name, reason in damaged.reason) == ("a.hdf5", True), damaged
    assert [raw.name for raw in found[1]] == ["b.hdf5#demo_0", "b.hdf5#demo_1"]


def test_a_damaged_chunk_of_images(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        del file[PICTURES]
        file.create_dataset(PICTURES, data=images(1), chunks=(1, SIZE, SIZE, 3), compression="gzip", fletcher32=True)

    write(tmp_path / "a.hdf5", edit=edit)
    with h5py.File(tmp_path / "a.hdf5") as file:
        place = file[PICTURES].id.get_chunk_info(3).byte_offset
    with (tmp_path / "a.hdf5").open("r+b") as stream:
        stream.seek(place + 40)
        stream.write(b"\0" * 200)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert "its image 3 of 'obs/agentview_rgb' cannot be read" in only(damaged).reason
    assert len(episodes) == 2


def test_a_lost_connection_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.hdf5", demos=1)
    reader = Libero(spec(tmp_path), Files.at(str(tmp_path), {}, tmp_path))
    parts = reader.parts()
    lose(monkeypatch, ".hdf5")
    with pytest.raises(SourceError, match="does not answer; run it again"):
        list(reader.read(parts[0]))


def test_no_mutilated_file_ends_the_reading(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5")
    path = tmp_path / "a.hdf5"
    content = path.read_bytes()
    found = 0
    for seed in range(60):
        path.write_bytes(mutilated(content, seed))
        episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
        for each in damaged:
            assert each.name.startswith("a.hdf5")
        assert len(episodes) + len(damaged) <= 3
        found += len(damaged)
    assert found >= 20
