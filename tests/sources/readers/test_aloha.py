"""ALOHA's HDF5: what h5py wrote comes back, compressed or not, and single faults are named."""

import io
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from episode_sets import SIDE, Recorded, assert_come_back, episode_sets, only_damage, skips, strides
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter
from reading import mutilated, read_all

from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.proposal import propose
from roboalign.sources.readers.spec import AlohaSpec

IMAGES = "observations/images"


def spec(folder: Path, width: int, **changes: Any) -> AlohaSpec:
    fields: dict[str, Any] = {
        "kind": "aloha", "uri": str(folder), "actions": [{"key": "action"}], "action_width": width,
        "camera": f"{IMAGES}/cam_0", "instruction": "task", "image": {"height": SIDE, "width": SIDE}, "length": 2,
    }  # fmt: skip
    return TypeAdapter(AlohaSpec).validate_python(fields | changes)


def encoded(frames: np.ndarray[Any, Any]) -> list[bytes]:
    """As PNG, which keeps them as they are."""
    result = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG")
        result.append(buffer.getvalue())
    return result


def write(folder: Path, recorded: list[Recorded], form: str = "raw", spoil: Callable[[Any], Any] | None = None) -> None:
    """One file an episode, as ALOHA's script writes it; `spoil` changes the second."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(recorded):
        with h5py.File(folder / f"episode_{number}.hdf5", "w", rdcc_nbytes=2**20) as file:
            file.attrs["sim"], file.attrs["compress"], file.attrs["task"] = False, form != "raw", each.instruction
            file["action"] = each.actions
            file["observations/qpos"] = each.actions * 2
            for name, frames in each.frames.items():
                if form == "raw":
                    file.create_dataset(f"{IMAGES}/{name}", data=frames, chunks=(1, *frames.shape[1:]))
                elif form == "padded":
                    images = encoded(frames)
                    longest = max(map(len, images)) + 3
                    rows = [np.frombuffer(image.ljust(longest, b"\0"), np.uint8) for image in images]
                    file[f"{IMAGES}/{name}"] = np.stack(rows)
                else:
                    file.create_dataset(f"{IMAGES}/{name}", (len(frames),), h5py.vlen_dtype(np.uint8))
                    for step, image in enumerate(encoded(frames)):
                        file[f"{IMAGES}/{name}"][step] = np.frombuffer(image, np.uint8)
            if spoil and number == 1:
                spoil(file)


@settings(max_examples=12, deadline=None)
@given(recorded=episode_sets(), stride=strides, skipped=skips, form=st.sampled_from(["raw", "padded", "vlen"]))
def test_random_data_sets_come_back(recorded: list[Recorded], stride: int, skipped: str, form: str) -> None:
    with TemporaryDirectory() as place:
        folder = Path(place)
        write(folder / "data/transfer_cube", recorded, form)
        camera = list(recorded[0].frames)[-1]
        chosen = spec(
            folder / "data", recorded[0].actions.shape[1], camera=f"{IMAGES}/{camera}", stride=stride,
            actions=[{"key": "action", "skipped": skipped}],
        )  # fmt: skip
        assert_come_back(chosen, recorded, camera, folder)


def three() -> list[Recorded]:
    rng = np.random.default_rng(0)
    return [
        Recorded({"cam_0": rng.integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)}, rng.normal(size=(6, 2)), f"task {n}")
        for n in range(3)
    ]


def replace_with(key: str, value: Any) -> Callable[[Any], None]:
    def spoil(file: Any) -> None:
        del file[key]
        if value is not None:
            file[key] = value

    return spoil


CAMERA = f"{IMAGES}/cam_0"
FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "fewer images": (replace_with(CAMERA, np.zeros((5, SIDE, SIDE, 3), np.uint8)), f"its '{CAMERA}' has shape (5, "),
    "more images": (replace_with(CAMERA, np.zeros((7, SIDE, SIDE, 3), np.uint8)), f"its '{CAMERA}' has shape (7, "),
    "NaN": (replace_with("action", np.full((6, 2), np.nan)), "its action 'action' is NaN or infinite at step 0"),
    "no actions": (replace_with("action", None), "it has no action column 'action'; available: "),
    "wider actions": (replace_with("action", np.ones((6, 3))), "its actions have width 3, but action_width is 2"),
    "no images": (replace_with(CAMERA, None), f"it has no camera '{CAMERA}'; available: action, observations/qpos"),
    "depth": (replace_with(CAMERA, np.zeros((6, SIDE, SIDE, 3), np.uint16)), f"its image '{CAMERA}' is uint16"),
    "no JPEG": (replace_with(CAMERA, np.ones((6, 9), np.uint8)), "its image at step 0 cannot be decoded: it is no"),
    "no instruction": (lambda file: file.attrs.pop("task"), "its instruction 'task' is missing or empty"),
    "a group": (lambda file: replace_with("action", None)(file) or file.create_group("action"), "it has no action"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_single_fault_is_named(tmp_path: Path, fault: str) -> None:
    spoil, reason = FAULTS[fault]
    write(tmp_path / "data", three(), spoil=spoil)
    assert only_damage(read_all(spec(tmp_path / "data", 2), tmp_path), 2).startswith(reason)


def test_a_damaged_file_is_one_episode(tmp_path: Path) -> None:
    write(tmp_path / "data", three())
    path = tmp_path / "data/episode_1.hdf5"
    content = path.read_bytes()
    for seed in range(30):
        path.write_bytes(mutilated(content, seed))
        episodes, damaged, _ = read_all(spec(tmp_path / "data", 2), tmp_path)
        assert len(episodes) + len(damaged) == 3
        assert len(episodes) >= 2


def test_blue_before_red(tmp_path: Path) -> None:
    recorded = three()
    write(tmp_path / "data", recorded)
    episodes, _, _ = read_all(spec(tmp_path / "data", 2, swap_channels=True), tmp_path)
    np.testing.assert_array_equal(episodes[0].frames, recorded[0].frames["cam_0"][..., ::-1])


def test_it_is_recognised_and_told_to_be_absolute(tmp_path: Path) -> None:
    write(tmp_path / "data", three(), "padded", None)
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert proposal.layout.what == "HDF5 in ALOHA's layout, 3 files with one episode each"
    assert (proposal.problem, proposal.missing) == ("", {})
    found = proposal.spec
    assert isinstance(found, AlohaSpec)
    assert (found.camera, found.instruction, found.fps) == (CAMERA, "task", 50)
    # qpos does what the action says; with so few steps nothing but the name could tell.
    assert found.action_width == 2


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((6, 60_000, 60_000, 3), None),
        ((6, 2**30), None),
        ((6, 4000, 8000, 3), (6, 4000, 8000, 3)),
        ((2**40, 1, 1, 3), None),
    ],
)
def test_false_sizes_take_no_memory(tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...] | None) -> None:
    recorded = three()
    write(tmp_path / "data", recorded)
    name = f"{IMAGES}/{next(iter(recorded[0].frames))}"
    for number in range(3):
        with h5py.File(tmp_path / f"data/episode_{number}.hdf5", "a") as file:
            del file[name]
            file.create_dataset(name, shape, "u1", chunks=chunks or tuple(min(side, 64) for side in shape))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    episodes, damaged, _ = read_all(spec(tmp_path / "data", 2, camera=name), tmp_path)
    assert not episodes
    assert len(damaged) == 3
    with suppress(SourceError):
        propose(str(tmp_path / "data"), {}, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
