"""Checkpoints: safetensors with the spec they were built from and the hash of what went in; nothing executable."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from roboalign.io import replacing
from roboalign.spec.base import Spec
from roboalign.types import Json

SpecT = TypeVar("SpecT", bound=Spec)


class CheckpointError(Exception):
    """A checkpoint that is damaged or of another kind of spec; the message names the file and the remedy."""


def save(path: Path, tensors: Mapping[str, torch.Tensor], **metadata: Json) -> None:
    """Write named tensors, each moved to the CPU, with JSON metadata; atomically and with the same bytes each time."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    # One entry only: safetensors writes several in the random order of a hash map. Within it the order is kept: that of
    # a reward's dimensions is the order of every score vector.
    text = json.dumps(metadata)
    with replacing(path) as temporary:
        save_file(plain, str(temporary), metadata={"roboalign": text})


def load(path: Path, device: str = "cpu") -> tuple[dict[str, torch.Tensor], dict[str, Json]]:
    """Read what `save` wrote: the tensors and the metadata. Raises CheckpointError where the file is damaged."""
    try:
        with safe_open(str(path), framework="pt", device=device) as file:
            metadata = json.loads((file.metadata() or {}).get("roboalign", "{}"))
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, metadata
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); remove it and run `dvc repro` again") from error


def save_model(path: Path, model: torch.nn.Module, spec: Spec, provenance: str, **metadata: Json) -> None:
    """Write a model's weights with its resolved `spec` and the `provenance` hash of its inputs and code."""
    save(path, model.state_dict(), spec=spec.model_dump(mode="json"), provenance=provenance, **metadata)


def load_spec(path: Path, kind: type[SpecT]) -> SpecT:
    """The spec that a model file was built from. Raises CheckpointError where it is of another kind."""
    _, metadata = load(path)
    try:
        return kind.model_validate_json(json.dumps(metadata["spec"]))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: holds no valid {kind.__name__}; run `dvc repro` to make it anew") from error
