from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

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
    checkpoint.save(tmp_path / "2", dict(reversed(tensors.items())), x=1, y=2)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, torch.nn.Linear(3, 2), DeviceSpec(), "abc")
    with pytest.raises(checkpoint.CheckpointError, match="has no valid LimitsSpec"):
        checkpoint.load_spec(path, LimitsSpec)
    checkpoint.save(path, {"weight": torch.zeros(1)})
    with pytest.raises(checkpoint.CheckpointError, match="has no 'spec'"):
        checkpoint.load_spec(path, DeviceSpec)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(checkpoint.CheckpointError, match=r"model\.safetensors: cannot be read"):
        checkpoint.load(path)


def linear(metadata: dict[str, Any]) -> torch.nn.Linear:
    """What the files of these tests hold."""
    return torch.nn.Linear(int(metadata["inputs"]), 2)


def test_a_model_is_built_from_its_own_metadata(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    checkpoint.save(tmp_path / "m", model.state_dict(), inputs=3)
    loaded = checkpoint.load_model(tmp_path / "m", linear)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.ones(2, 4)}, r"weight has the shape \(2, 4\), not \(2, 3\)"),
        ({"weight": torch.ones(3, 2)}, r"weight has the shape"),
        ({"weight": None}, "weight is missing"),
        ({"extra": torch.ones(1)}, "extra is not a weight of this model"),
        ({"weight": torch.ones(2, 3, dtype=torch.float16)}, "weight is of type torch.float16, not torch.float32"),
        ({"weight": torch.ones(2, 3, dtype=torch.int32)}, "weight is of type torch.int32, not torch.float32"),
        ({"bias": torch.tensor([1.0, float("nan")])}, "bias has 1 values that are not finite"),
        ({"bias": torch.tensor([float("inf"), -float("inf")])}, "bias has 2 values that are not finite"),
    ],
)
def test_weights_that_are_not_the_models_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    tensors = {"weight": torch.ones(2, 3), "bias": torch.ones(2)} | change
    checkpoint.save(tmp_path / "m", {name: value for name, value in tensors.items() if value is not None}, inputs=3)
    with pytest.raises(checkpoint.CheckpointError, match=rf"m: .*{message}.*`dvc repro`"):
        checkpoint.load_model(tmp_path / "m", linear)


@pytest.mark.parametrize("inputs", [10**15, -1, 1e300, "x", None, [], {}])
def test_metadata_that_describe_no_model_are_refused_before_memory_is_taken(tmp_path: Path, inputs: Any) -> None:
    checkpoint.save(tmp_path / "m", torch.nn.Linear(3, 2).state_dict(), inputs=inputs)
    with pytest.raises(checkpoint.CheckpointError, match="m: "):
        checkpoint.load_model(tmp_path / "m", linear)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", "{", '"spec"'])
def test_metadata_that_are_not_a_mapping_are_refused(tmp_path: Path, text: str) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "m", metadata={"roboalign": text})
    for read in (checkpoint.load, checkpoint.load_metadata):
        with pytest.raises(checkpoint.CheckpointError, match="m: cannot be read"):
            read(tmp_path / "m")


def test_scratch_notices_a_single_bit(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    tensors = {"a": torch.arange(5.0), "b": torch.tensor(3), "c": torch.zeros(0, 2), "d": torch.tensor([True])}
    checkpoint.save_scratch(path, tensors, step=3, rows=[{"loss": 0.1}])
    found, metadata = checkpoint.load_scratch(path)
    assert metadata == {"step": 3, "rows": [{"loss": 0.1}]}
    assert all(torch.equal(value, found[name]) for name, value in tensors.items())
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            again, metadata = checkpoint.load_scratch(path)
        except checkpoint.CheckpointError:
            continue
        # Of the bytes that are not content, such as the padding of the header.
        assert metadata == {"step": 3, "rows": [{"loss": 0.1}]}
        assert all(torch.equal(value, again[name]) for name, value in tensors.items())
