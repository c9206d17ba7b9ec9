"""Folders of `.npz` episodes: what numpy wrote comes back, and single faults are named."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from episode_sets import SIDE, Recorded, only_damage
from hypothesis import example, given, settings
from pydantic import TypeAdapter
from reading import read_all

from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.proposal import propose
from roboalign.sources.readers.spec import NpzEpisodesSpec

Arrays = dict[str, Any]


def spec(folder: Path, width: int, **changes: Any) -> NpzEpisodesSpec:
    fields: dict[str, Any] = {
        "kind": "npz", "uri": str(folder), "actions": [{"key": "action"}], "action_width": width, "fps": 3.0,
        "image": {"height": SIDE, "width": SIDE}, "length": 2,
    }  # fmt: skip
    return TypeAdapter(NpzEpisodesSpec).validate_python(fields | changes)


def arrays_of(each: Recorded) -> Arrays:
    return {**each.frames, "action": each.actions, "instruction": each.instruction, "success": True}


def write(folder: Path, recorded: list[Recorded], spoil: Callable[[Arrays], None] | None = None) -> None:
    """One file an episode; `spoil` changes the arrays of the second."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(recorded):
        arrays = arrays_of(each)
        if spoil and number == 1:
            spoil(arrays)
        np.savez_compressed(folder / f"train_eps_{number:08d}.npz", **arrays)


def three() -> list[Recorded]:
    rng = np.random.default_rng(0)
    return [
        Recorded({"image": rng.integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)}, rng.normal(size=(6, 2)), f"task {n}")
        for n in range(3)
    ]


FAULTS: dict[str, tuple[Callable[[Arrays], Any], str]] = {
    "fewer actions": (lambda a: a.update(action=a["action"][:-1]), "its 'action' has 5 rows, but there are 6 of"),
    "more actions": (lambda a: a.update(action=np.ones((7, 2))), "its 'action' has 7 rows, but there are 6 of"),
    "NaN": (lambda a: a.update(action=np.full((6, 2), np.nan)), "its action 'action' is NaN or infinite at step 0"),
    "no actions": (lambda a: a.pop("action"), "it has no action column 'action'; available: "),
    "wider actions": (lambda a: a.update(action=np.ones((6, 3))), "its actions have width 3, but action_width is 2"),
    "text": (lambda a: a.update(action=np.array(["x"] * 6)), "it has no action column 'action'"),
    "objects": (lambda a: a.update(action=np.array([[1, None]] * 6)), "it has no action column 'action'"),
    "no images": (lambda a: a.pop("image"), "it has no camera 'image'; available: action, instruction, success"),
    "floats": (lambda a: a.update(image=a["image"] / 255), "its image 'image' is float64 (16, 16, 3), not uint8"),
    "gray": (lambda a: a.update(image=a["image"][..., :1]), "its image 'image' is uint8 (16, 16, 1), not uint8"),
    "no instruction": (lambda a: a.pop("instruction"), "its instruction 'instruction' is missing or empty"),
    "blank instruction": (lambda a: a.update(instruction=" "), "its instruction 'instruction' is missing or empty"),
    "one image": (lambda a: a.update(image=np.uint8(1)), "its 'image' is a single value, not one for each step"),
    "empty": (lambda a: a.update(image=a["image"][:0], action=a["action"][:0]), "it is empty: it has no steps"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_single_fault_is_named(tmp_path: Path, fault: str) -> None:
    spoil, reason = FAULTS[fault]
    write(tmp_path / "data", three(), spoil)
    assert only_damage(read_all(spec(tmp_path / "data", 2), tmp_path), 2).startswith(reason)


@settings(max_examples=60, deadline=None)
@example(seed=1792937)  # a directory that lies before the file
@given(seed=...)
def test_changed_bytes_never_pass_silently(seed: int) -> None:
    """Whatever one bit of a file becomes, its episode is damaged or as it was: ZIP has checksums."""
    rng = np.random.default_rng(abs(seed))
    recorded = three()
    with TemporaryDirectory() as place:
        folder = Path(place)
        write(folder / "data", recorded)
        path = folder / "data/train_eps_00000001.npz"
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content if seed % 2 else content[: rng.integers(len(content))])
        episodes, damaged, _ = read_all(spec(folder / "data", 2), folder)
        assert len(episodes) + len(damaged) == 3
        for episode, each in zip(episodes, recorded if len(episodes) == 3 else recorded[::2], strict=True):
            np.testing.assert_array_equal(episode.frames, each.frames["image"])
            np.testing.assert_allclose(episode.actions, each.actions, rtol=1e-6)


def test_a_header_that_claims_too_much_asks_for_no_memory(tmp_path: Path) -> None:
    write(tmp_path / "data", three())
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 99, 99, 3)})
    with zipfile.ZipFile(tmp_path / "data/train_eps_00000001.npz", "w") as archive:
        archive.writestr("image.npy", buffer.getvalue() + b"0" * 100)
    reason = only_damage(read_all(spec(tmp_path / "data", 2), tmp_path), 2)
    assert reason == "its array image.npy has 100 bytes, not the 29403000000000 of its header"


def test_it_is_recognised(tmp_path: Path) -> None:
    write(tmp_path / "data", three())
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert (proposal.layout.what, proposal.problem, proposal.missing) == ("3 .npz files with one episode each", "", {})
    found = proposal.spec
    assert isinstance(found, NpzEpisodesSpec)
    assert (found.camera, found.instruction, found.action_width, found.image_size) == (
        "image", "instruction", 2, (SIDE, SIDE),
    )  # fmt: skip


def test_ivideogpts_own_files_hold_no_actions(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    np.savez_compressed(tmp_path / "data/train_eps_00000000.npz", image=np.zeros((5, 16, 16, 3), np.uint8))
    proposal = propose(str(tmp_path / "data"), {}, tmp_path)
    assert proposal.missing == {"instruction": "none", "actions": "none"}
    assert "actions: [] # MISSING: name the columns that make up the action" in proposal.text()


def test_an_empty_folder_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"contains no file \*\*/\*\.npz; correct `uri`"):
        read_all(spec(tmp_path, 2), tmp_path)
