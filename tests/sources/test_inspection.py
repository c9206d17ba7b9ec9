"""`inspect`: the figures are those of the data, problems are named, and what it proposes can be used as it is."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_calvin
import test_libero
import test_videos
import yaml
from PIL import Image
from pydantic import TypeAdapter
from reading import mutilated, read_all, served

from roboalign.__main__ import main
from roboalign.sources.inspection.command import inspect_spec
from roboalign.sources.inspection.layouts.layout import Column, best_column
from roboalign.sources.inspection.preview import CELL, choose_parts, shade_outside_crop
from roboalign.sources.inspection.proposal import flow, propose
from roboalign.sources.inspection.summary import dimensions
from roboalign.sources.inspection.text import histogram
from roboalign.sources.readers.reader import Part
from roboalign.sources.readers.spec import ImageTransformSpec
from roboalign.sources.spec import SourceSpec
from roboalign.spec.document import plain, read
from roboalign.store import EpisodeWriter
from roboalign.types import Episode

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT.parent / "shared/data/bridge_v2_sample"
ADAPTER: TypeAdapter[Any] = TypeAdapter(SourceSpec)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, so that nothing is cached in the checkout."""
    monkeypatch.chdir(tmp_path)


def spec_file(path: Path, fields: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


def of_videos(folder: Path, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(test_videos.spec(folder, **changes).model_dump_json(exclude_unset=True))
    return fields


def test_the_figures_of_a_data_set(tmp_path: Path, capsys: Capture) -> None:
    def edit(folder: Path, lines: list[dict[str, Any]]) -> None:
        lines[2]["instruction"] = lines[1]["instruction"]
        lines.append(lines[0] | {"video": "clips/none.mp4"})
        lines.append(lines[0] | {"instruction": "leave me out"})

    test_videos.write(tmp_path / "data", edit)
    image = {"height": 16, "width": 16, "crop": {"bottom": 0.5}}
    fields = of_videos(tmp_path / "data", image=image, stride=2, filter={"without": "leave"}, tolerance=0.3)
    path = spec_file(tmp_path / "mine.yaml", fields)
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == "mine"
    assert (found["kept"], found["damaged"], found["left_out"]) == (3, 1, {"filter.without": 1})
    assert found["damage"] == [{"name": "episodes.jsonl:4", "reason": "the video clips/none.mp4 is missing", "lost": 1}]
    assert (found["complete"], found["selection"]) == (True, "all 5 episodes")
    assert (found["frames_recorded"], found["frames"], found["lengths"]) == (27, 15, {"5": 3})
    assert (found["fps_recorded"], found["fps"]) == (10, 5)
    assert (found["sizes"], found["size"], found["fit"]) == ({"32x48": 3}, "16x16", "crop")
    assert found["frequent"] == {"push block 1": 2, "push block 0": 1}
    assert found["attributes"]["operator/name"] == {"episodes": 3, "distinct": 1, "examples": ["ada"]}
    assert found["groups"] == 3
    assert sum(found["splits"].values()) == 3
    actions = [test_videos.actions(number) for number in range(3)]
    strided = np.concatenate([np.add.reduceat(each, range(0, 9, 2), axis=0) for each in actions])
    assert [each["name"] for each in found["actions"]] == ["actions[0]", "actions[1]", "actions[2]"]
    for index, each in enumerate(found["actions"]):
        quantiles = np.quantile(strided[:, index], [0, 0.01, 0.5, 0.99, 1])
        values = [each[key] for key in ("minimum", "low", "median", "high", "maximum")]
        np.testing.assert_allclose(values, quantiles, rtol=1e-4)


def test_what_is_printed(tmp_path: Path, capsys: Capture) -> None:
    test_libero.write(tmp_path / "data/libero_goal/a_demo.hdf5", demos=4)
    fields = json.loads(test_libero.spec(tmp_path / "data").model_dump_json(exclude_unset=True))
    assert main(["inspect", str(spec_file(tmp_path / "goal.yaml", fields))]) == 0
    printed = capsys.readouterr().out
    for text in (
        f"goal: libero, {tmp_path}/data\n",
        "inspected     all 4 episodes\n",
        "kept          4; 0 damaged\n",
        "frames        24 at 20 frames per second\n",
        "lengths       6 frames each\n",
        "images        32x32 (4) → 32x32 by crop\n",
        "actions: 7 dimensions\n",
        "  actions[6]",
        "    4  put the bowl on the plate\n",
        "  folder  ",
        "no episode falls into validation: 4 episodes are too few",
    ):
        assert text in printed, text


def problems(tmp_path: Path, capsys: Capture, fields: dict[str, Any]) -> tuple[int, list[str]]:
    code = main(["inspect", str(spec_file(tmp_path / "mine.yaml", fields)), "--json"])
    return code, json.loads(capsys.readouterr().out)["problems"]


def test_what_is_odd_is_said(tmp_path: Path, capsys: Capture) -> None:
    def edit(folder: Path, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            table = np.array(line["actions"])
            table[:, 0] = 0.5
            table[:, 2] = [0, 1] * 4 + [0]
            line["actions"] = table.tolist()
        lines[0]["actions"][3][1] = 1e6

    test_videos.write(tmp_path / "data", edit)
    size = {"height": 64, "width": 96}
    code, found = problems(tmp_path, capsys, of_videos(tmp_path / "data", image=size, action_quantile=0.2))
    assert code == 0
    assert "images of 32x48 are enlarged 2 times to 64x96; set image.height and width" in found
    assert any(text.startswith("never vary: actions[0]") for text in found)
    assert any("actions[1]" in text and text.startswith("outliers far beyond the range") for text in found)
    _, found = problems(tmp_path, capsys, of_videos(tmp_path / "data", stride=2))
    assert any(
        "actions[2] is like a gripper's switch (it has two values)" in text and "`skipped: last`" in text
        for text in found
    )
    split = {"train": 0.4, "validation": 0.3, "test": 0.3, "scene": "operator/name"}
    _, found = problems(tmp_path, capsys, of_videos(tmp_path / "data", split=split))
    assert any(
        text.startswith("no episode falls into validation or test: 3 episodes belong to 1 scene,") for text in found
    )


def test_where_everything_is_left_out_it_is_shown_all_the_same(tmp_path: Path, capsys: Capture) -> None:
    test_videos.write(tmp_path / "data")
    path = spec_file(tmp_path / "mine.yaml", of_videos(tmp_path / "data", length=20))
    assert main(["inspect", str(path), "--sheet", "sheet.png"]) == 1
    printed = capsys.readouterr().out
    assert "instructions: 3 distinct\n" in printed
    assert "kept          0; 3 left out by length; 0 damaged" in printed
    assert "the longest has 9 frames, and length is 20: lower length or stride" in printed
    assert Path("sheet.png").is_file()


def test_more_damage_than_tolerated_fails(tmp_path: Path, capsys: Capture) -> None:
    test_videos.write(tmp_path / "data", test_videos.change(actions="none.npy"))
    code, found = problems(tmp_path, capsys, of_videos(tmp_path / "data"))
    assert code == 1
    assert "33.3% of the episodes are damaged, more than tolerance (1.0%) allows: the stage would fail" in found


def test_missing_instructions_are_counted(tmp_path: Path, capsys: Capture) -> None:
    test_videos.write(tmp_path / "data", test_videos.change(instruction=None))
    path = spec_file(tmp_path / "mine.yaml", of_videos(tmp_path / "data", tolerance=0.5))
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "instructions: 2 distinct; 1 without one\n" in printed
    assert "  episodes.jsonl:2: its instruction 'instruction' is missing or empty; " in printed


def test_a_sheet_shows_what_is_kept_of_the_images(tmp_path: Path) -> None:
    test_videos.write(tmp_path / "data")
    path = spec_file(tmp_path / "mine.yaml", of_videos(tmp_path / "data", image={"height": 32, "width": 32}))
    assert main(["inspect", str(path), "--sheet", "a.png"]) == 0
    assert main(["inspect", str(path), "--sheet", "b.png"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    sheet = np.asarray(Image.open("a.png"))
    # The frame's own pixels, enlarged four times, stand on the sheet.
    frame = test_videos.frames(0)[-1, :, 8:40].repeat(4, 0).repeat(4, 1)
    rows = np.flatnonzero((sheet == (255, 214, 10)).all(2).any(1))
    top = rows[0]
    places = [x for x in range(sheet.shape[1] - 128) if np.array_equal(sheet[top + 40, x : x + 128], frame[40])]
    assert len(places) == 1
    np.testing.assert_array_equal(sheet[top + 30 : top + 128, places[0] : places[0] + 128], frame[30:])


def test_the_recorded_image_is_dark_where_it_is_cut_off() -> None:
    image = np.full((36, 72, 3), 200, np.uint8)
    found = shade_outside_crop(image, ImageTransformSpec(height=32, width=32))
    assert found.shape == (CELL, 2 * CELL, 3)
    assert (found[:, : CELL // 2 - 16] == 60).all()
    assert (found[16:-16, CELL // 2 + 16 : -CELL // 2 - 16] == 200).all()
    assert (shade_outside_crop(image, ImageTransformSpec(height=32, width=64)) == 200).all()


def test_a_store_is_inspected(tmp_path: Path, capsys: Capture, toy_episodes: list[Episode]) -> None:
    with EpisodeWriter(tmp_path / "toy", fps=10) as writer:
        for episode in (*toy_episodes[:5], toy_episodes[-1]):
            writer.add(episode)
    assert main(["inspect", str(tmp_path / "toy"), "--episodes", "3", "--json", "--sheet", "sheet.png"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["selection"] == "3 of 6 episodes; --episodes 0 inspects all"
    assert found["splits"] == {"train": 5, "validation": 0, "test": 1}
    assert (found["kept"], found["size"], found["lengths"]) == (3, "32x32", {"12": 3})


PLACES: dict[str, Callable[[Path], None]] = {
    "libero": lambda folder: test_libero.write(folder / "suite/a_demo.hdf5"),
    "calvin": test_calvin.write,
    "videos": test_videos.write,
}


@pytest.mark.parametrize("kind", PLACES)
def test_a_spec_is_proposed_that_passes_check_and_reads_everything(tmp_path: Path, kind: str, capsys: Capture) -> None:
    PLACES[kind](tmp_path / "data")
    assert main(["inspect", str(tmp_path / "data")]) == 0
    printed = capsys.readouterr()
    path = tmp_path / "specs/sources/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(printed.out)
    # Read as `check` reads it, and as any other reader of YAML does.
    fields = plain(read(path, "mine.yaml"))
    assert fields == yaml.safe_load(printed.out)
    spec = ADAPTER.validate_python(fields)
    assert spec.kind == kind
    episodes, damaged, left_out = read_all(spec, tmp_path)
    assert (len(episodes), damaged, left_out) == (3, [], [])
    assert spec.image_size == episodes[0].frames.shape[1:3]
    assert main(["--root", str(tmp_path), "inspect", "mine", "--sheet", "sheet.png"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "data"), "--json"]) == 0
    assert ADAPTER.validate_python(json.loads(capsys.readouterr().out)["spec"]) == spec


def test_what_the_proposal_lists(tmp_path: Path, capsys: Capture) -> None:
    test_calvin.write(tmp_path / "data")
    assert main(["inspect", str(tmp_path / "data"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cameras"] == {"rgb_static": "24x24", "rgb_gripper": "12x12"}
    assert found["vectors"]["robot_obs"] == "15 of float64"
    assert found["instructions"] == {"ann": '"push the red block"'}
    assert found["spec"]["actions"] == [{"key": "rel_actions"}]
    assert "its environments are A, B" in found["format"]


def test_damaged_files_do_not_hide_the_format(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        test_libero.write(tmp_path / f"data/{name}.hdf5", demos=2)
    content = (tmp_path / "data/a.hdf5").read_bytes()
    (tmp_path / "data/a.hdf5").write_bytes(b"none")
    for seed in range(30):
        (tmp_path / "data/b.hdf5").write_bytes(mutilated(content, seed))
        assert propose(str(tmp_path / "data"), {}, tmp_path).layout.kind == "libero"


@pytest.mark.parametrize("own", [True, False])
def test_liberos_own_files_are_told_from_robomimics(tmp_path: Path, own: bool) -> None:
    def edit(file: Any) -> None:
        del file["data"].attrs["macros_image_convention"]
        if own:
            file["data"].attrs["bddl_file_name"] = "libero_goal/put_the_bowl_on_the_plate.bddl"
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 10}})

    test_libero.write(tmp_path / "data/a.hdf5", edit=edit)
    spec = propose(str(tmp_path / "data"), {}, tmp_path).spec
    assert (spec.kind, spec.after_action, spec.upside_down, spec.fps) == ("libero", own, own, 10)


def test_a_data_set_of_lerobot_is_recognised(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    with EpisodeWriter(tmp_path / "toy", fps=10) as writer:
        for episode in toy_episodes[:3]:
            writer.add(episode)
    proposal = propose(str(tmp_path / "toy"), {}, tmp_path)
    assert proposal.layout.what == "LeRobotDataset v3.0, 3 episodes at 10 frames per second"
    assert proposal.problem == ""
    spec = proposal.spec
    assert (spec.kind, spec.camera, spec.instruction) == ("lerobot", "observation.images.main", "task")
    episodes, damaged, _ = read_all(spec, tmp_path)
    assert not damaged
    np.testing.assert_array_equal(episodes[1].frames, toy_episodes[1].frames)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the BridgeData sample is not there")
def test_the_real_sample_is_recognised(tmp_path: Path, capsys: Capture) -> None:
    assert main(["inspect", str(SAMPLE)]) == 0
    spec = ADAPTER.validate_python(yaml.safe_load(capsys.readouterr().out))
    assert (spec.kind, spec.camera, spec.instruction) == ("rlds", "observation/image_0", "language_instruction")
    assert [(entry.columns, entry.skipped) for entry in spec.actions] == [((0, 1, 2, 3, 4, 5), "sum"), ((6,), "last")]
    found = inspect_spec(spec, "bridge", 0, tmp_path)
    assert (found.summary.kept, found.summary.damaged, found.summary.instructions) == (25, 0, 4)


def test_a_remote_place_is_recognised(tmp_path: Path, capsys: Capture) -> None:
    test_videos.write(tmp_path / "data")
    with served(tmp_path) as address:
        assert main(["inspect", f"{address}/data"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["uri"] == f"{address}/data"


def test_an_unknown_place_says_what_was_looked_for(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/notes.txt").write_text("x")
    assert main(["inspect", str(tmp_path / "data")]) == 1
    printed = capsys.readouterr().err
    for text in (
        "features.json",
        "meta/info.json",
        "auto_lang_ann.npy",
        "data/demo_*",
        "*.jsonl",
        "it contains: notes.txt",
    ):
        assert text in printed


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (test_videos.change(), "has no known format"),
        (lambda _, lines: [line.pop("instruction") for line in lines], "but no instruction was found"),
        (lambda _, lines: [line.pop("actions") for line in lines], "but no actions was found"),
    ],
)
def test_what_a_spec_needs_and_is_not_there(tmp_path: Path, edit: Any, message: str, capsys: Capture) -> None:
    test_videos.write(tmp_path / "data", edit)
    if "format" in message:
        (tmp_path / "data/episodes.jsonl").unlink()
    assert main(["inspect", str(tmp_path / "data")]) == 1
    assert message in capsys.readouterr().err


def test_a_place_of_which_nothing_can_be_read(tmp_path: Path, capsys: Capture) -> None:
    def edit(folder: Path, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["actions"] = [*line["actions"], line["actions"][0]]

    test_videos.write(tmp_path / "data", edit)
    assert main(["inspect", str(tmp_path / "data")]) == 1
    printed = capsys.readouterr()
    assert (
        "# No episode could be read with this spec: the video clips/0.mp4 has 9 frames, but there are 10" in printed.out
    )
    assert "no episode could be read with this spec" in printed.err


def test_a_bad_spec_is_refused_as_check_refuses_it(tmp_path: Path, capsys: Capture) -> None:
    path = spec_file(tmp_path / "mine.yaml", of_videos(tmp_path) | {"strde": 2, "length": 1})
    assert main(["inspect", str(path)]) == 2
    printed = capsys.readouterr().err
    assert "error: unknown key 'strde'; did you mean 'stride'?" in printed
    assert "'length' must be at least 2, not 1" in printed
    assert "2 errors in 1 file" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["brigde"], "there is no specs/sources/brigde.yaml; did you mean 'bridge'?"),
        (["none/at/all.yaml"], "there is no such file"),
        (["bridge", "--episodes", "-1"], "--episodes is -1; give 0 or more"),
        (["bridge", "--sheet", "x.jpg"], "must end in .png"),
        (["bridge", "--option", "anon"], "--option anon has no value; write KEY=VALUE"),
    ],
)
def test_wrong_arguments(words: list[str], message: str, capsys: Capture) -> None:
    assert main(["--root", str(ROOT), "inspect", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_data_set_that_is_not_there(capsys: Capture) -> None:
    assert main(["--root", str(ROOT), "inspect", "bridge"]) == 1
    assert (
        "data/rlds/bridge_dataset/1.0.0 does not exist; set `uri` to the path of your copy" in capsys.readouterr().err
    )


def test_options_reach_the_place(tmp_path: Path, capsys: Capture) -> None:
    test_videos.write(tmp_path / "data")
    assert main(["inspect", str(tmp_path / "data"), "--option", "auto_mkdir=true", "--option", "n=3"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["options"] == {"auto_mkdir": True, "n": 3}


def test_some_episodes_are_taken_from_all_over() -> None:
    parts = [Part(str(number)) for number in range(100)]
    assert [part.path for part in choose_parts(parts, 20, 0)] == [str(number) for number in range(0, 100, 10)]
    assert [part.path for part in choose_parts(parts, 3, 0)] == ["0", "33", "66"]
    assert [part.path for part in choose_parts(parts, 3, 7)] == ["0", "1", "2"]
    assert choose_parts(parts, 0, 0) == parts
    assert choose_parts(parts[:2], 20, 0) == parts[:2]


def test_only_so_many_episodes_are_read(tmp_path: Path) -> None:
    for number in range(12):
        test_libero.write(tmp_path / f"data/{number:02d}.hdf5", demos=3)
    found = inspect_spec(test_libero.spec(tmp_path / "data"), "x", 5, tmp_path).preview
    assert found.selection == "5 episodes, from 5 of 12 parts; --episodes 0 inspects all"
    assert [episode.name for episode in found.episodes] == [f"{n:02d}.hdf5#demo_0" for n in (0, 2, 4, 7, 9)]
    found = inspect_spec(test_libero.spec(tmp_path / "data"), "x", 24, tmp_path).preview
    assert len(found.episodes) == 24
    assert inspect_spec(test_libero.spec(tmp_path / "data"), "x", 0, tmp_path).preview.selection == "all 36 episodes"
    limited = test_libero.spec(tmp_path / "data", episodes=4)
    assert [episode.name[:2] for episode in inspect_spec(limited, "x", 8, tmp_path).preview.episodes] == [
        "00",
        "01",
        "02",
        "03",
    ]


def test_the_dimensions_of_actions() -> None:
    values = np.zeros((1000, 3), np.float32)
    values[:, 1] = np.arange(1000) % 2
    values[:, 2] = np.linspace(0, 1, 1000)
    values[7, 2] = 50
    constant, switch, smooth = dimensions([values[:500], values[500:]], ("a", "b"), 0.01)
    assert (constant.name, constant.values, constant.outlier_fraction) == ("a", 1, 0)
    assert (switch.name, switch.values, switch.low, switch.high) == ("b", 2, 0, 1)
    assert (smooth.name, smooth.values, smooth.outlier_fraction, smooth.maximum) == ("action_2", 9, 0.001, 50)


def test_a_histogram_of_lengths() -> None:
    assert histogram({12: 4}) == "12 frames each"
    assert histogram({10: 1, 11: 4, 13: 2}) == "10 ▃█ ▅ 13 frames, median 11"


def test_the_camera_that_sees_the_scene_is_proposed() -> None:
    def chosen(*keys: str) -> str:
        from roboalign.sources.inspection.layouts.layout import CAMERA, NO_CAMERA

        return best_column([Column(key, "") for key in keys], CAMERA, NO_CAMERA)

    assert chosen("observation/wrist_image", "observation/image") == "observation/image"
    assert chosen("rgb_gripper", "rgb_static") == "rgb_static"
    assert chosen("obs/eye_in_hand_rgb", "obs/agentview_rgb") == "obs/agentview_rgb"
    assert chosen("observation.images.wrist", "observation.images.top") == "observation.images.top"
    assert chosen() == ""


def test_values_are_written_so_that_every_reader_of_yaml_reads_them_alike(tmp_path: Path) -> None:
    values: list[Any] = [
        "a/b",
        "yes",
        "1e-4",
        "a: b",
        "#x",
        "",
        "ü",
        "null",
        "0x1F",
        "s3://b/c",
        True,
        3,
        2.5,
        {"a": [1]},
    ]
    path = tmp_path / "a.yaml"
    path.write_text("".join(f"k{number}: {flow(value)}\n" for number, value in enumerate(values)))
    assert list(yaml.safe_load(path.read_text()).values()) == values
    assert list(plain(read(path, "a.yaml")).values()) == values


def test_torch_is_not_loaded(tmp_path: Path) -> None:
    test_videos.write(tmp_path / "data")
    path = spec_file(tmp_path / "mine.yaml", of_videos(tmp_path / "data"))
    script = (
        "import sys; from roboalign.__main__ import main\n"
        f"assert main(['inspect', {str(path)!r}, '--sheet', {str(tmp_path / 'a.png')!r}]) == 0\n"
        "assert not {'torch', 'lightning', 'mujoco'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)
