from pathlib import Path

import pytest
import torch

from roboalign import checkpoint
from roboalign.hardware.spec import DeviceSpec, LimitsSpec


def test_weights_spec_and_metadata_come_back(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, model, DeviceSpec(threads=3), "abc", words=["push", "pick"])
    tensors, metadata = checkpoint.load(path)
    assert torch.equal(tensors["weight"], model.weight)
    assert metadata["words"] == ["push", "pick"]
    assert metadata["provenance"] == "abc"
    assert checkpoint.load_spec(path, DeviceSpec) == DeviceSpec(threads=3)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(2), "a": torch.zeros(3)}
    checkpoint.save(tmp_path / "1", tensors, x=1, y=2)
    checkpoint.save(tmp_path / "2", dict(reversed(tensors.items())), y=2, x=1)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, torch.nn.Linear(3, 2), DeviceSpec(), "abc")
    with pytest.raises(checkpoint.CheckpointError, match="holds no valid LimitsSpec"):
        checkpoint.load_spec(path, LimitsSpec)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(checkpoint.CheckpointError, match=r"model\.safetensors: cannot be read"):
        checkpoint.load(path)
