"""Ctrl-World's videos with annotations: what PyAV and json wrote comes back, and single faults are named."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from episode_sets import SIDE, Recorded, expected_actions, only_damage
from pydantic import TypeAdapter, ValidationError
from reading import read_all

from roboalign.sources.builder import build_reader
from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.proposal import propose
from roboalign.sources.readers.reader import RawEpisode
from roboalign.sources.readers.spec import CtrlWorldSpec
from roboalign.sources.readers.videos import MORE_FRAMES

Annotation = dict[str, Any]


def spec(folder: Path, width: int, **changes: Any) -> CtrlWorldSpec:
    fields: dict[str, Any] = {
        "kind": "ctrl_world", "uri": str(folder), "actions": [{"key": "states"}], "action_width": width,
        "image": {"height": SIDE, "width": SIDE}, "length": 2,
    }  # fmt: skip
    return TypeAdapter(CtrlWorldSpec).validate_python(fields | changes)


def film(path: Path, frames: np.ndarray[Any, Any], rate: int = 5) -> None:
    """A lossless video: H.264 in RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=rate, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "rgb24"
        for number, frame in enumerate(frames):
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            image.pts, image.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def write(folder: Path, recorded: list[Recorded], spoil: Callable[[Annotation], Any] | None = None) -> None:
    """Annotations as Ctrl-World's script writes them; `spoil` changes the second."""
    (folder / "annotation/train").mkdir(parents=True)
    for number, each in enumerate(recorded):
        paths = [f"videos/train/{number}/{camera}.mp4" for camera in range(len(each.frames))]
        for path, frames in zip(paths, each.frames.values(), strict=True):
            film(folder / path, frames)
        # All but the states has three rows a frame; the last frame may have fewer.
        raw = np.repeat(each.actions, 3, axis=0)[: 3 * each.length - 2]
        annotation = {
            "texts": [each.instruction],
            "episode_id": number,
            "success": 1,
            "video_length": each.length,
            "raw_length": len(raw),
            "videos": [{"video_path": path} for path in paths],
            "latent_videos": [{"latent_video_path": f"latent_videos/train/{number}/0.pt"}],
            "states": each.actions.tolist(),
            "action.cartesian_position": raw.tolist(),
            "action.gripper_position": raw[:, 0].tolist(),
        }
        if spoil and number == 1:
            spoil(annotation)
        (folder / f"annotation/train/{number}.json").write_text(json.dumps(annotation))


def three() -> list[Recorded]:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (6, SIDE, SIDE, 3), np.uint8) for _ in range(3)]
    return [
        Recorded({"cam_0": each}, rng.normal(size=(6, 2)).astype(np.float32), f"task {n}")
        for n, each in enumerate(frames)
    ]


def test_commands_have_three_rows_a_frame(tmp_path: Path) -> None:
    recorded = three()
    write(tmp_path / "data", recorded)
    chosen = spec(
        tmp_path / "data", 3, rows_per_frame=3, stride=6,
        actions=[{"key": "action.cartesian_position"}, {"key": "action.gripper_position", "skipped": "last"}],
    )  # fmt: skip
    episodes, damaged, _ = read_all(chosen, tmp_path)
    assert damaged == []
    raw = np.repeat(recorded[0].actions, 3, axis=0)[:16]
    np.testing.assert_array_equal(episodes[0].frames, recorded[0].frames["cam_0"][::2])
    np.testing.assert_allclose(episodes[0].actions[:, :2], expected_actions(raw, 6, "sum"), rtol=1e-5)
    np.testing.assert_allclose(episodes[0].actions[:, 2:], expected_actions(raw[:, :1], 6, "last"), rtol=1e-5)


def test_a_stride_between_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"stride \(4\) must be a multiple of rows_per_frame \(3\); change it"):
        spec(tmp_path, 2, rows_per_frame=3, stride=4)


FAULTS: dict[str, tuple[Callable[[Annotation], Any], str]] = {
    "another rate": (lambda a: a.update(states=a["states"] * 3), "its 'states' has 18 rows, which are 18 frames by "),
    "more rows": (lambda a: a["states"].append([0, 0]), "the video videos/train/1/0.mp4 has 6 frames, but there are 7"),
    "NaN": (lambda a: a["states"][2].__setitem__(0, float("nan")), "its action 'states' is NaN or infinite at step 2"),
    "uneven": (lambda a: a["states"][2].pop(), "its 'states' is not a table of numbers: its rows differ in length"),
    "text": (lambda a: a["states"][2].__setitem__(0, "x"), "its 'states' contains text, not numbers"),
    "no rows": (lambda a: a.pop("states"), "it has no action column 'states'; available: action.cartesian_position, "),
    "no videos": (lambda a: a.pop("videos"), "the annotation has no list 'videos'"),
    "another camera": (
        lambda a: a["videos"][0].update(video_path="videos/x.mp4"),
        "it has no camera '0'; available: x",
    ),
    "no such video": (lambda a: a["videos"][0].update(video_path="a/0.mp4"), "the video a/0.mp4 is missing"),
    "outside": (
        lambda a: a["videos"][0].update(video_path="../0.mp4"),
        "its 'video_path' is the file '../0.mp4', which",
    ),
    "no instruction": (lambda a: a["texts"].clear(), "its instruction 'texts' is missing or empty"),
    "blank instruction": (lambda a: a.update(texts=[""]), "its instruction 'texts' is missing or empty"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_single_fault_is_named(tmp_path: Path, fault: str) -> None:
    spoil, reason = FAULTS[fault]
    write(tmp_path / "data", three(), spoil)
    assert only_damage(read_all(spec(tmp_path / "data", 2), tmp_path), 2).startswith(reason)


def test_frames_after_the_last_row_are_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "data", three(), lambda annotation: annotation["states"].pop())
    reader = build_reader(spec(tmp_path / "data", 2), tmp_path)
    raws = [raw for part in reader.parts() for raw in reader.read(part)]
    for raw in raws:
        assert isinstance(raw, RawEpisode)
        assert len(list(raw.images(range(raw.length)))) == raw.length
    assert [raw.warnings for raw in raws if isinstance(raw, RawEpisode)] == [[], [MORE_FRAMES], []]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"[" * 100_000])
def test_what_is_no_annotation(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "data", three())
    (tmp_path / "data/annotation/train/1.json").write_bytes(content)
    assert only_damage(read_all(spec(tmp_path / "data", 2), tmp_path), 2).startswith("the annotation is not ")


def test_it_is_recognised_with_its_commands(tmp_path: Path) -> None:
    write(tmp_path / "data", three())
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert proposal.layout.what == "Ctrl-World's videos with annotations, 3 of them in annotation/train"
    assert (proposal.problem, proposal.missing) == ("", {})
    found = proposal.spec
    assert isinstance(found, CtrlWorldSpec)
    assert [(entry.key, entry.skipped) for entry in found.actions] == [
        ("action.cartesian_position", "last"), ("action.gripper_position", "last"),
    ]  # fmt: skip
    assert (found.camera, found.instruction, found.rows_per_frame, found.stride) == ("0", "texts", 3, 3)
    episodes, damaged, _ = read_all(found, tmp_path)
    assert damaged == []
    np.testing.assert_array_equal(episodes[2].frames, three()[2].frames["cam_0"])


def test_without_commands_the_states_stand_for_them(tmp_path: Path) -> None:
    def spoil(annotation: Annotation) -> None:
        for key in ("action.cartesian_position", "action.gripper_position"):
            del annotation[key]

    write(tmp_path / "data", three(), spoil)
    for number in (0, 2):
        (tmp_path / f"data/annotation/train/{number}.json").unlink()
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert [entry["key"] for entry in proposal.fields["actions"]] == ["states"]
    assert "# The annotations contain no commands; the resulting states are used in their place.\n" in proposal.text()


def test_another_folder_of_annotations(tmp_path: Path) -> None:
    write(tmp_path / "data", three())
    with pytest.raises(SourceError, match="contains no file annotation/val/"):
        read_all(spec(tmp_path / "data", 2, annotations="annotation/val"), tmp_path)
