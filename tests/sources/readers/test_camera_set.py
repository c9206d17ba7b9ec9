"""Several cameras of one source: in one frame, stored whole or camera by camera, and what does not fit is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lerobot_files as arm
import numpy as np
import pytest
import test_videos
import yaml
from episode_sets import SIDE
from episode_writers import write_source
from pydantic import TypeAdapter, ValidationError
from reading import only, read_all
from test_random_data_sets import three_episodes

from roboalign.__main__ import main
from roboalign.hardware.spec import ProcessesSpec
from roboalign.sources.builder import build_reader
from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.command import inspect_spec
from roboalign.sources.inspection.proposal import propose
from roboalign.sources.readers.convert import convert
from roboalign.sources.readers.image_transform import transform_image
from roboalign.sources.readers.reader import RawEpisode
from roboalign.sources.readers.spec import ImageTransformSpec, NpzEpisodesSpec
from roboalign.sources.readers.videos import MORE_FRAMES
from roboalign.sources.shards import materialise
from roboalign.sources.spec import RecordedSpec
from roboalign.spec.diagnostics import SpecError
from roboalign.spec.single import single
from roboalign.store import EpisodeStore

SIZES = {"front": (40, 60), "side": (24, 24), "wrist": (50, 30)}
Capture = pytest.CaptureFixture[str]


def arrays(length: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {name: rng.integers(0, 256, (length, *size, 3), np.uint8) for name, size in SIZES.items()}
    return found | {"action": rng.normal(size=(length, 2)), "instruction": "lift it"}


def fields(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "npz", "uri": str(folder), "camera": list(SIZES), "actions": [{"key": "action"}], "action_width": 2,
        "fps": 5.0, "image": {"height": 64, "width": 100}, "length": 2, "tolerance": 1.0,
    } | changes  # fmt: skip


def spec(folder: Path, **changes: Any) -> NpzEpisodesSpec:
    return TypeAdapter(NpzEpisodesSpec).validate_python(fields(folder, **changes))


def write(folder: Path, change: Callable[[dict[str, Any]], Any] | None = None) -> None:
    folder.mkdir(parents=True)
    found = arrays()
    if change:
        change(found)
    np.savez(folder / "episode_0.npz", **found)


@pytest.mark.parametrize(
    ("layout", "cells"),
    [
        ("row", [(0, 64, 0, 34), (0, 64, 34, 66), (0, 64, 66, 100)]),
        ("column", [(0, 22, 0, 100), (22, 42, 0, 100), (42, 64, 0, 100)]),
        ("grid", [(0, 32, 0, 50), (0, 32, 50, 100), (32, 64, 0, 50)]),
    ],
)
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_each_camera_fills_its_cell_whatever_its_size(
    tmp_path: Path, layout: str, cells: list[tuple[int, int, int, int]], fit: str
) -> None:
    write(tmp_path / "data")
    image = {"height": 64, "width": 100, "fit": fit, "crop": {"top": 0.25}}
    chosen = spec(tmp_path / "data", tiling={"layout": layout}, image=image)
    (episode,), damaged, _ = read_all(chosen, tmp_path)
    assert damaged == []
    assert episode.frames.shape == (5, 64, 100, 3)
    wanted = np.zeros_like(episode.frames)
    for name, (top, bottom, left, right) in zip(SIZES, cells, strict=True):
        cell = ImageTransformSpec.model_construct(
            **dict(chosen.image) | {"height": bottom - top, "width": right - left}
        )
        wanted[:, top:bottom, left:right] = [transform_image(each, cell) for each in arrays()[name]]
    np.testing.assert_array_equal(episode.frames, wanted)


def build(spec: RecordedSpec, place: Path) -> EpisodeStore:
    executor = ProcessesSpec(kind="processes", workers=1)
    materialise(spec, "robot", place / "store", place / "scratch", place / "cache", executor, lambda *_: None)
    return EpisodeStore(place / "store")


@pytest.mark.parametrize("kind", ["png", "h264"])
def test_cameras_stored_by_themselves_are_seen_as_the_same_frame(tmp_path: Path, kind: str) -> None:
    changes = {"tiling": {"layout": "grid"}, "image": {"height": 64, "width": 64}, "storage": {"kind": kind, "crf": 1}}
    spec = write_source("lerobot images", tmp_path / "data", three_episodes(3), **changes)
    whole = build(spec, tmp_path / "whole")
    tiling = spec.tiling.model_copy(update={"separate": True})
    apart = build(spec.model_copy(update={"tiling": tiling}), tmp_path / "apart")
    names = [f"observation.images.cam_{number}" for number in range(3)]
    images = {name: feature for name, feature in apart.features.items() if name.startswith("observation.images")}
    assert list(images) == names
    assert {tuple(feature["shape"]) for feature in images.values()} == {(32, 32, 3)}
    assert apart.frame_size == whole.frame_size == (64, 64)
    for number in range(3):
        found, wanted = apart.read(number), whole.read(number)
        if kind == "png":
            np.testing.assert_array_equal(found.frames, wanted.frames)
            assert not found.frames[:, 32:, 32:].any()
        else:
            # Noise is what video keeps worst; a wrong cell would be 85 off on average.
            assert np.abs(found.frames.astype(int) - wanted.frames).mean() < 25
        np.testing.assert_array_equal(apart.frames_at(number, [1, 3]), found.frames[[1, 3]])
        np.testing.assert_array_equal(found.actions, wanted.actions)
    if kind == "h264":
        assert sorted(path.name for path in (tmp_path / "apart/store/videos").iterdir()) == names
    # The store is a LeRobotDataset, whose cameras can be read like any other's.
    again = propose(str(tmp_path / "apart/store"), {}, tmp_path)
    assert [column.key for column in again.layout.cameras] == names


MISSING: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "absent": (
        lambda found: found.pop("side"),
        "it has no camera 'side'; available: action, front, instruction, wrist",
    ),
    "shorter": (
        lambda found: found.update(wrist=found["wrist"][:-1]),
        "camera 'front' has 5 frames, but 'wrist' has 4",
    ),
    "gray": (lambda found: found.update(side=found["side"][..., 0]), "its image 'side' is uint8 (24, 24), not uint8"),
}


@pytest.mark.parametrize("case", MISSING)
def test_the_camera_that_does_not_fit_is_named(tmp_path: Path, case: str) -> None:
    change, reason = MISSING[case]
    write(tmp_path / "data", change)
    assert only(read_all(spec(tmp_path / "data"), tmp_path)[1]).reason.startswith(reason)


def test_a_camera_that_the_data_set_lacks_is_refused_at_once(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3, "image")
    changed = arm.spec(tmp_path / "data", camera=[arm.CAMERA, "observation.images.wrist"], image={"height": 32})
    with pytest.raises(SourceError, match=r"no camera 'observation.images.wrist'; its cameras: observation.depth, obs"):
        build_reader(changed, tmp_path)


def test_damage_of_a_image_is_told_with_its_camera(tmp_path: Path) -> None:
    recorded = three_episodes(2)
    recorded[1].frames["cam_1"] = recorded[1].frames["cam_1"][:3]
    spec = write_source("lerobot images", tmp_path / "data", recorded)
    reason = only(read_all(spec, tmp_path)[1]).reason
    assert reason == "camera 'observation.images.cam_1': it has no image at step 3"


def test_damage_of_the_whole_file_is_told_once(tmp_path: Path) -> None:
    write(tmp_path / "data")
    (tmp_path / "data/episode_1.npz").write_bytes(b"PK none")
    found = only(read_all(spec(tmp_path / "data"), tmp_path)[1])
    assert found.reason.startswith("it is not an .npz file, or a damaged one")


def test_longer_videos_of_one_camera_are_a_warning(tmp_path: Path) -> None:
    def edit(folder: Path, lines: list[dict[str, Any]]) -> None:
        for number, line in enumerate(lines):
            longer = test_videos.frames(10 + number, test_videos.LENGTH + 2 * (number == 1))
            test_videos.film(folder / f"clips/{number}_b.mp4", longer)
            line["wrist"] = f"clips/{number}_b.mp4"

    test_videos.write(tmp_path / "data", edit)
    spec = test_videos.spec(tmp_path / "data", camera=["video", "wrist"])
    found = []
    for part in build_reader(spec, tmp_path).parts():
        for raw in build_reader(spec, tmp_path).read(part):
            assert isinstance(raw, RawEpisode)
            convert(raw, spec, "source")
            found.append(raw.warnings)
    assert found == [[], [MORE_FRAMES], []]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera": ["a", "b", "a"]}, "camera lists 'a' twice; name each camera once"),
        ({"camera": []}, "at least 1 item"),
        ({"camera": [""]}, "at least 1 character"),
        ({"camera": "a", "tiling": {"separate": True}}, "tiling.separate needs several cameras; list them in camera"),
        (
            {"camera": ["a/b.c", "a.b/c"]},
            "two of the cameras a/b.c, a.b/c would be stored under the same name; rename one",
        ),
        (
            {"camera": list("abcdefg")},
            "image.width 100 leaves less than 16 pixels for each of 7 cameras; raise it, list fewer cameras, "
            "or change tiling.layout",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"camera": ["a", "b", "a"]}, "camera:", "camera lists 'a' twice"),
        ({"camera": ["a", 3]}, "- 3", "'camera', item 2, must be text, not 3"),
        ({"camera": 3}, "camera: 3", "'camera' must be text, not 3"),
        ({"camera": []}, "camera: []", "'camera' must have at least 1 item"),
        ({"tiling": {"layuot": "row"}}, "layuot: row", "unknown key 'layuot'"),
        ({"image": {"height": 64, "width": 32}}, "width: 32", "image.width 32 leaves less than 16 pixels"),
    ],
)
def test_errors_point_at_the_line(tmp_path: Path, changes: dict[str, Any], place: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(fields(tmp_path, **changes), sort_keys=False))
    with pytest.raises(SpecError) as error:
        single(tmp_path, path, "sources")
    (found,) = error.value.diagnostics
    assert message in found.message
    assert found.mark is not None
    assert place in path.read_text().splitlines()[found.mark.line]


def test_inspect_shows_all_cameras_and_proposes_them(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "data")
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert proposal.spec is not None
    assert proposal.spec.camera == "front"
    assert "# All cameras in one frame, side by side: camera: [front, side, wrist]" in proposal.text()
    found = inspect_spec(spec(tmp_path / "data"), "npz", 0, tmp_path)
    assert found.summary.sizes == {"24x24": 1, "40x60": 1, "50x30": 1}
    assert "→ 64x34 by crop, one of 3 cameras in a frame" in found.text(as_json=False)
    (preview,) = found.preview.episodes
    assert preview.recorded_image is not None
    assert preview.recorded_image.shape == (128, 192 + 128 + 77, 3)
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(fields(tmp_path / "data")))
    assert main(["inspect", str(path), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").exists()
    assert "40x60" in capsys.readouterr().out


def test_a_list_of_one_camera_is_that_camera(tmp_path: Path) -> None:
    write(tmp_path / "data")
    single_frame = {"height": SIDE * 2, "width": SIDE * 2}
    (one,), _, _ = read_all(spec(tmp_path / "data", camera=["side"], image=single_frame), tmp_path)
    (same,), _, _ = read_all(spec(tmp_path / "data", camera="side", image=single_frame), tmp_path)
    np.testing.assert_array_equal(one.frames, same.frames)
