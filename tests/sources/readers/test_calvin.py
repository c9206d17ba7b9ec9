"""CALVIN's layout: what numpy wrote comes back, ten kinds of damage are named, and no pickle runs anything."""

import io
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reading import lose, only, read_all, served, survives

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.calvin import AnnotatedSegment, Calvin, assign_recordings
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.pickled import read_pickled
from roboalign.sources.readers.reader import Part, RawEpisode
from roboalign.sources.readers.spec import CalvinSpec

SIZE, STEPS = 24, range(40, 100)
BOUNDS = [(40, 46), (60, 66), (90, 99)]
TEXTS = ["push the red block", "open the drawer", "turn on the light"]
Edit = Callable[[Path], None]
Array = np.ndarray[Any, Any]


def spec(folder: Path | str, **changes: Any) -> CalvinSpec:
    fields: dict[str, Any] = {
        "kind": "calvin",
        "uri": str(folder),
        "camera": "rgb_static",
        "actions": [
            {"key": "rel_actions", "columns": [0, 1, 2, 3, 4, 5]},
            {"key": "rel_actions", "columns": [6], "skipped": "last"},
        ],
        "action_width": 7,
        "image": {"height": SIZE, "width": SIZE},
        "length": 2,
    }  # fmt: skip
    return CalvinSpec.model_validate(fields | changes)


def step(number: int) -> dict[str, Array]:
    """A step's arrays: CALVIN's names, dtypes and (but for the images) widths."""
    rng = np.random.default_rng(number)
    return {
        "rgb_static": rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8),
        "rgb_gripper": rng.integers(0, 256, (12, 12, 3), np.uint8),
        "depth_static": rng.random((SIZE, SIZE), np.float32),
        "actions": rng.normal(size=7),
        "rel_actions": rng.normal(size=7),
        "robot_obs": rng.normal(size=15),
        "scene_obs": rng.normal(size=24),
    }


def annotations() -> dict[str, Any]:
    return {
        "language": {
            "ann": list(TEXTS),
            "task": ["push_red_block_left", "open_drawer", "turn_on_led"],
            "emb": np.random.default_rng(0).normal(size=(3, 1, 384)).astype(np.float32),
        },
        "info": {"episodes": [], "indx": [(np.int64(first), last) for first, last in BOUNDS]},
    }


def save(folder: Path, language: Any) -> None:
    (folder / "training/lang_annotations").mkdir(parents=True, exist_ok=True)
    np.save(folder / "training/lang_annotations/auto_lang_ann.npy", language)


def write(folder: Path) -> None:
    save(folder, annotations())
    np.save(folder / "training/scene_info.npy", {"calvin_scene_B": [0, 50], "calvin_scene_A": [51, 99]})
    for number in STEPS:
        np.savez_compressed(folder / f"training/episode_{number:07d}.npz", **step(number))


def column(key: str, number: int) -> Array:
    first, last = BOUNDS[number]
    return np.stack([step(each)[key] for each in range(first, last + 1)])


def test_stretches_come_back_as_written(tmp_path: Path) -> None:
    write(tmp_path)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert not damaged
    for number, episode in enumerate(episodes):
        np.testing.assert_array_equal(episode.frames, column("rgb_static", number))
        np.testing.assert_array_equal(episode.actions, column("rel_actions", number).astype(np.float32))
        assert (episode.id, episode.instruction) == (f"source/training#{number}", TEXTS[number])
    assert [episode.task for episode in episodes] == ["push_red_block_left", "open_drawer", "turn_on_led"]


def test_a_stride_and_another_camera(tmp_path: Path) -> None:
    write(tmp_path)
    image = {"height": 16, "width": 16, "fit": "stretch"}
    episodes, _, _ = read_all(spec(tmp_path, stride=3, camera="rgb_gripper", image=image), tmp_path)
    assert [episode.frames.shape for episode in episodes] == [(3, 16, 16, 3), (3, 16, 16, 3), (4, 16, 16, 3)]
    raw = column("rel_actions", 2)
    np.testing.assert_allclose(episodes[2].actions[0, :6], raw[:3, :6].sum(0), rtol=1e-5)
    np.testing.assert_allclose(episodes[2].actions[:, 6], raw[[2, 5, 8, 9], 6], rtol=1e-5)


def test_environments_are_chosen_by_scene_info(tmp_path: Path) -> None:
    write(tmp_path)
    episodes, damaged, _ = read_all(spec(tmp_path, environments=["A", "D"]), tmp_path)
    assert [episode.instruction for episode in episodes] == TEXTS[1:]
    assert not damaged
    with pytest.raises(SourceError, match=r"no segment in the chosen `environments`; scene_info\.npy lists A, B"):
        read_all(spec(tmp_path, environments=["C"]), tmp_path)
    reader = Calvin(spec(tmp_path), Files.at(str(tmp_path), {}, tmp_path))
    found = [raw.attributes for raw in reader.read(Part("training")) if isinstance(raw, RawEpisode)]
    assert found[0] == {
        "subset": "training", "task": "push_red_block_left", "environment": "B", "recording": "0000040",
    }  # fmt: skip
    # Older copies spell it shorter.
    np.save(tmp_path / "training/scene_info.npy", {"scene_D": [0, 99]})
    assert len(read_all(spec(tmp_path, environments=["D"]), tmp_path)[0]) == 3


def test_without_scene_info_all_are_read_and_none_can_be_chosen(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "training/scene_info.npy").unlink()
    assert len(read_all(spec(tmp_path), tmp_path)[0]) == 3
    with pytest.raises(SourceError, match="leave `environments` empty"):
        read_all(spec(tmp_path, environments=["A"]), tmp_path)


def test_parts_are_some_stretches_each(tmp_path: Path) -> None:
    write(tmp_path)
    many = annotations()
    for part, key in (("language", "ann"), ("language", "task"), ("info", "indx")):
        many[part][key] = many[part][key] * 10
    save(tmp_path, many)
    reader = Calvin(spec(tmp_path), Files.at(str(tmp_path), {}, tmp_path))
    assert reader.parts() == [Part("training", 0, 25), Part("training", 25, 50)]
    assert [raw.name for raw in reader.read(reader.parts()[1])] == [f"training#{number}" for number in range(25, 30)]


def test_a_remote_copy(tmp_path: Path) -> None:
    write(tmp_path / "data")
    with served(tmp_path) as address:
        episodes, damaged, _ = read_all(spec(f"{address}/data"), tmp_path / "cache")
    assert not damaged
    np.testing.assert_array_equal(episodes[1].frames, column("rgb_static", 1))


def test_only_the_named_arrays_are_unpacked(tmp_path: Path) -> None:
    write(tmp_path)
    for number in range(40, 47):
        # An array that is not asked for may be anything, even a pickle.
        arrays = step(number) | {"depth_static": np.array([print, None])}
        np.savez(tmp_path / f"training/episode_{number:07d}.npz", **arrays)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert len(episodes) == 3
    assert not damaged


def rewrite(**changes: Any) -> Edit:
    """Give step 63 other arrays; None leaves one out."""

    def edit(folder: Path) -> None:
        arrays = {key: value for key, value in (step(63) | changes).items() if value is not None}
        np.savez(folder / "training/episode_0000063.npz", **arrays)

    return edit


def put(content: bytes | None) -> Edit:
    """Give the file of step 63 another content; None takes it away."""

    def edit(folder: Path) -> None:
        path = folder / "training/episode_0000063.npz"
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    return edit


def truncated(folder: Path) -> None:
    path = folder / "training/episode_0000063.npz"
    path.write_bytes(path.read_bytes()[:2000])


def scrambled(folder: Path) -> None:
    path = folder / "training/episode_0000063.npz"
    content = bytearray(path.read_bytes())
    content[300:500] = bytes(200)
    path.write_bytes(content)


def annotated(edit: Callable[[dict[str, Any]], None]) -> Edit:
    """Change the annotations."""

    def changed(folder: Path) -> None:
        language = annotations()
        edit(language)
        save(folder, language)

    return changed


def bounds(first: Any, last: Any) -> Edit:
    return annotated(lambda language: language["info"]["indx"].__setitem__(1, (first, last)))


def text(value: Any) -> Edit:
    return annotated(lambda language: language["language"]["ann"].__setitem__(1, value))


def plain_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def nan() -> Array:
    values = np.zeros(7)
    values[2] = np.inf
    return values


NO_NPZ = "training/episode_0000063.npz cannot be used: it is not an .npz file, or a damaged one"
DAMAGE: dict[str, tuple[Edit, str]] = {
    "missing step": (put(None), "training/episode_0000063.npz is missing"),
    "truncated": (truncated, "training/episode_0000063.npz cannot be used: it"),
    "scrambled": (scrambled, "training/episode_0000063.npz cannot be used: it"),
    "empty": (put(b""), NO_NPZ),
    "another format": (put(b"hello" * 100), NO_NPZ),
    "an .npy": (put(plain_array()), NO_NPZ),
    "no camera": (rewrite(rgb_static=None), "no array 'rgb_static'; available: actions, depth_static"),
    "float images": (rewrite(rgb_static=np.zeros((SIZE, SIZE, 3))), "at step 63 its image 'rgb_static' is float64"),
    "grey images": (rewrite(rgb_static=np.zeros((SIZE, SIZE), np.uint8)), "its image 'rgb_static' is uint8"),
    "pickled images": (rewrite(rgb_static=np.array([None])), "it contains Python objects"),
    "no actions": (rewrite(rel_actions=None), "no array 'rel_actions'"),
    "NaN": (rewrite(rel_actions=nan()), "'rel_actions' is NaN or infinite at step 3"),
    "narrow": (rewrite(rel_actions=np.zeros(6)), "'rel_actions' has shape (6,) at step 63, (7,) before"),
    "text": (rewrite(rel_actions=np.array(["a"] * 7)), "contains text, not numbers"),
    "no instruction": (text(""), "its instruction 'ann' is missing or empty"),
    "no text": (text(3), "its instruction 'ann' is missing or empty"),
    "no segment": (bounds(66, 59), "it is empty: it has no steps"),
    "beyond the end": (bounds(96, 105), "training/episode_0000100.npz is missing"),
    "no numbers": (bounds("60", None), "one of its bounds is 60, not the number of a step from 0 to 9999999"),
    "endless": (bounds(60, 10**6), "more than 10000 steps"),
    "beyond all": (bounds(60, 10**9), "one of its bounds is 1000000000, not the number of a step"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_stretch_is_named_and_the_others_are_read(tmp_path: Path, kind: str) -> None:
    edit, reason = DAMAGE[kind]
    write(tmp_path)
    edit(tmp_path)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert only(damaged).name == "training#1"
    assert reason in only(damaged).reason
    assert [episode.id for episode in episodes] == ["source/training#0", "source/training#2"]


def test_a_stretch_between_environments(tmp_path: Path) -> None:
    write(tmp_path)
    bounds(45, 55)(tmp_path)
    _, damaged, _ = read_all(spec(tmp_path, environments=["A", "B"]), tmp_path)
    assert only(damaged).reason == "its steps 45 to 55 are not in a single environment of scene_info.npy"


def test_stretches_that_show_the_same_images_are_one_scene(tmp_path: Path) -> None:
    pairs = [(500, 563), (100, 163), (120, 150), (163, 227), (600, 663), (257, 300), (331, 340), ("x", 3)]
    found = assign_recordings(
        [AnnotatedSegment(number, first, last, "", "") for number, (first, last) in enumerate(pairs)]
    )
    names = ["0000500", "0000100", "0000100", "0000100", "0000600", "0000100", "0000331", ""]
    assert [each.recording for each in found] == names
    assert [(each.first, each.last) for each in found] == pairs
    write(tmp_path)
    assert len({episode.scene for episode in read_all(spec(tmp_path), tmp_path)[0]}) == 1


class Evil:
    """Unpickled in the ordinary way, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    write(tmp_path)
    for evil in (Evil(tmp_path / "ran"), {"language": Evil(tmp_path / "ran")}):
        save(tmp_path, evil)
        with pytest.raises(SourceError, match=r"auto_lang_ann\.npy cannot be read: its pickle is refused: it names "):
            read_all(spec(tmp_path), tmp_path)
    save(tmp_path, annotations())
    np.save(tmp_path / "training/scene_info.npy", Evil(tmp_path / "ran"))
    with pytest.raises(SourceError, match=r"scene_info\.npy cannot be read: its pickle is refused"):
        read_all(spec(tmp_path, environments=["A"]), tmp_path)
    assert not (tmp_path / "ran").exists()
    # That the pickle would have run otherwise shows that the test can fail.
    np.load(tmp_path / "training/scene_info.npy", allow_pickle=True)
    assert (tmp_path / "ran").exists()


def npy(value: Any, protocol: int, *, old: bool = False) -> io.BytesIO:
    """An .npy file with a pickle of the given protocol; with the names that numpy 1 wrote where `old`."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    whole = np.empty((), object)
    whole[()] = value
    content = pickle.dumps(whole, protocol=protocol)
    if old:
        assert protocol < 4
        content = content.replace(b"cnumpy._core.", b"cnumpy.core.")
    stream.write(content)
    stream.seek(0)
    return stream


VALUE = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "texts": np.array(["a", "bcd"]),
    "bytes": np.array([b"xy"]),
    "flags": np.array([True, False]),
    "objects": np.array([{"a": (1, 2)}, [None, "x"]], object),
    "numbers": [np.int64(7), np.float64(0.5), np.bool_(True), 3, 1.5],
}


@pytest.mark.parametrize(("protocol", "old"), [(2, False), (2, True), (3, True), (3, False), (4, False), (5, False)])
def test_what_numpy_pickles_is_read_as_numpy_reads_it(protocol: int, old: bool) -> None:
    found = read_pickled(npy(VALUE, protocol, old=old))
    assert list(found) == list(VALUE)
    for key, value in VALUE.items():
        if key == "numbers":
            assert found[key] == [7, 0.5, True, 3, 1.5]
        else:
            assert found[key].dtype == value.dtype
            np.testing.assert_array_equal(found[key], value)


class Called:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        Called(eval, "1 + 1"),
        Called(np.ndarray, (3,)),
        Called(np.fromfile, "/etc/hostname"),
        Called(np.dtype, {"names": ["a"], "formats": ["O"]}),
        np.zeros(2, [("a", "f4")]),
        np.array(["2020-01-01"], "M8[D]"),
        Called(np.dtype, "f4"),
        {1, 2},
        Path("x"),
    ],
)
def test_what_is_no_plain_data_is_refused(value: Any) -> None:
    with pytest.raises(DamagedError, match="its pickle is refused"):
        read_pickled(npy([value], 3))


def test_truncated_and_other_files_are_refused() -> None:
    content = npy(VALUE, 4).getvalue()
    for length in range(0, len(content) - 1, 7):
        with pytest.raises(DamagedError):
            read_pickled(io.BytesIO(content[:length]))
    with pytest.raises(DamagedError, match=r"it contains float64 \(3,\), not one pickled object"):
        read_pickled(io.BytesIO(plain_array()))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[int(rng.integers(10, len(content)))] = int(rng.integers(256))
        with suppress(DamagedError):
            read_pickled(io.BytesIO(bytes(damaged)))


def test_nested_references_do_not_grow() -> None:
    value: Any = ["x"] * 10
    for _ in range(12):
        value = [value] * 10
    found = read_pickled(npy(value, 4))
    assert len(found) == 10
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(DamagedError, match="nested deeper than 16 levels"):
        read_pickled(npy([endless], 4))


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ({"language": {}}, "is not a language annotation"),
        ([1, 2], "not one pickled object"),
        ({"language": {"ann": ["a"]}, "info": {"indx": []}}, "has 0 segments and 1 instructions"),
        ({"language": {"text": ["a"]}, "info": {"indx": [(0, 1)]}}, "no list of instructions 'ann'; available: text"),
    ],
)
def test_unusable_annotations_are_refused(tmp_path: Path, language: Any, message: str) -> None:
    write(tmp_path)
    save(tmp_path, language)
    with pytest.raises(SourceError, match=message):
        read_all(spec(tmp_path), tmp_path)


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"has no training/lang_annotations/auto_lang_ann\.npy; set `uri` to the folder of CALVIN"
    ):
        read_all(spec(tmp_path), tmp_path)


def test_no_mutilated_file_ends_the_reading(tmp_path: Path) -> None:
    write(tmp_path)
    survives(tmp_path / "training/episode_0000063.npz", lambda: read_all(spec(tmp_path), tmp_path))


def test_a_lost_connection_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    lose(monkeypatch, ".npz")
    with pytest.raises(SourceError, match="cannot be fetched: the server does not answer; run it again"):
        read_all(spec(tmp_path), tmp_path)
