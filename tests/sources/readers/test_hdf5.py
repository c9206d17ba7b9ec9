"""What an HDF5 file keeps in other files is refused, whether or not those are there."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from reading import only, read_all
from test_libero import actions, images, spec, write

from roboalign.sources.readers.hdf5 import member

PICTURES, ACTIONS = "data/demo_1/obs/agentview_rgb", "data/demo_1/actions"


def outside(folder: Path) -> tuple[Path, Path]:
    """A raw file and an HDF5 file beside the data set, with the values of demonstration 1."""
    (folder / "raw").write_bytes(images(1).tobytes())
    with h5py.File(folder / "other.hdf5", "w") as file:
        file["images"], file["actions"] = images(1), actions(1)
        file.create_group("demo")["actions"] = actions(1)
    return folder / "raw", folder / "other.hdf5"


def external_storage(file: Any, raw: Path, other: Path) -> None:
    del file[PICTURES]
    values = images(1)
    external = [(str(raw), 0, values.nbytes)]
    file.create_dataset(PICTURES, values.shape, values.dtype, external=external)


def virtual_data_set(file: Any, raw: Path, other: Path) -> None:
    del file[ACTIONS]
    layout = h5py.VirtualLayout(actions(1).shape, actions(1).dtype)
    layout[:] = h5py.VirtualSource(str(other), "actions", actions(1).shape)
    file.create_virtual_dataset(ACTIONS, layout)


def external_link(file: Any, raw: Path, other: Path) -> None:
    del file["data/demo_1"]
    file["data/demo_1"] = h5py.ExternalLink(str(other), "demo")


def link_through_a_link(file: Any, raw: Path, other: Path) -> None:
    del file["data/demo_1"]
    file["away"] = h5py.ExternalLink(str(other), "/")
    file["data/demo_1"] = h5py.SoftLink("/away/demo")


def circle(file: Any, raw: Path, other: Path) -> None:
    del file["data/demo_1"]
    file["data/demo_1"] = h5py.SoftLink("/data/demo_1")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (external_storage, "its 'obs/agentview_rgb' is kept in external storage: it is stored in other files"),
        (virtual_data_set, "its 'actions' is a virtual data set: it is stored in other files"),
        (external_link, "'demo_1' is a link to another file, or part of a cycle of links, and is not followed"),
        (link_through_a_link, "'away' is a link to another file, or part of a cycle of links, and is not followed"),
        (circle, "'demo_1' is a link to another file, or part of a cycle of links, and is not followed"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_values_in_other_files_are_refused(tmp_path: Path, edit: Any, reason: str, there: bool) -> None:
    raw, other = outside(tmp_path)
    write(tmp_path / "set/a.hdf5", edit=lambda file: edit(file, raw, other))
    if not there:
        raw.unlink()
        other.unlink()
    episodes, damaged, _ = read_all(spec(tmp_path / "set"), tmp_path)
    assert [each.id for each in episodes] == ["source/a.hdf5#demo_0", "source/a.hdf5#demo_2"]
    assert only(damaged).reason.startswith(reason)


def test_a_whole_file_that_is_a_link(tmp_path: Path) -> None:
    write(tmp_path / "set/b.hdf5", demos=1)
    with h5py.File(tmp_path / "set/a.hdf5", "w") as file:
        file["data"] = h5py.ExternalLink(str(tmp_path / "set/b.hdf5"), "data")
    episodes, damaged, _ = read_all(spec(tmp_path / "set"), tmp_path)
    assert len(episodes) == 1
    assert only(damaged).name == "a.hdf5"
    assert only(damaged).reason.startswith("'data' is a link to another file")


def test_links_inside_a_file_are_followed(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        file["kept"] = h5py.SoftLink("/data/demo_0")
        del file["data/demo_1"]
        file["data/demo_1"] = h5py.SoftLink("/kept")

    write(tmp_path / "a.hdf5", edit=edit)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert not damaged
    np.testing.assert_array_equal(episodes[0].frames, episodes[1].frames)
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert member(file, "data/nothing/there") is None
        assert isinstance(member(file, "/data/demo_0/actions"), h5py.Dataset)


def test_a_virtual_data_set_that_is_not_read_does_no_harm(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "absent.hdf5"), "x", (3,))
        file.create_virtual_dataset("data/demo_1/obs/depth", layout)

    write(tmp_path / "a.hdf5", edit=edit)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert (len(episodes), damaged) == (3, [])


def test_sizes_that_nothing_fills_are_refused(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        del file[ACTIONS]
        file.create_dataset(ACTIONS, (7, 2**40), "f4", chunks=(1, 1024))

    write(tmp_path / "a.hdf5", edit=edit)
    assert only(read_all(spec(tmp_path), tmp_path)[1]).reason == (
        f"its 'actions' has {7 * 2**40} numbers, more than {2**26}"
    )
