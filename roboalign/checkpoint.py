"""Checkpoints: safetensors with the spec of the model and the hash of its inputs; nothing in them is executable.

Files are not trusted. `load_model` builds a model only if the names, shapes and types of the file's tensors are those
of the model that its metadata describes, and all values are finite.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from roboalign.io import parse_json, replacing
from roboalign.spec.base import Spec
from roboalign.types import Json

SpecT = TypeVar("SpecT", bound=Spec)
ModelT = TypeVar("ModelT", bound=torch.nn.Module)

KEY = "roboalign"
"""The only entry of a file's metadata: a JSON document."""

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""Types of tensors by their names in safetensors; other types are rejected."""

MAKE_ANEW = "remove it and run `dvc repro` again"
"""The remedy for a file that a stage wrote."""


class CheckpointError(Exception):
    """A checkpoint is damaged, not one of RoboAlign's, or cannot be written; the message names file and remedy."""


def save(path: Path, tensors: Mapping[str, torch.Tensor], **metadata: Json) -> None:
    """Write named tensors, moved to the CPU, and JSON metadata; atomic and deterministic.

    Raises CheckpointError if the file cannot be written, for example if the disk is full.
    """
    _write(path, _on_cpu(tensors), metadata)


def load(path: Path, device: str = "cpu") -> tuple[dict[str, torch.Tensor], dict[str, Json]]:
    """Read the tensors and the metadata of a file that `save` wrote. Raises CheckpointError if it is damaged."""
    with _open_file(path, device) as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys())}, _metadata(file)


def save_model(path: Path, model: torch.nn.Module, spec: Spec, provenance: str, **metadata: Json) -> None:
    """Write a model's weights with its resolved `spec` and the `provenance` hash of its inputs and code."""
    save(path, model.state_dict(), spec=spec.model_dump(mode="json"), provenance=provenance, **metadata)


def load_metadata(path: Path) -> dict[str, Json]:
    """The metadata of a file, without its tensors. Raises CheckpointError if the file is damaged."""
    with _open_file(path) as file:
        return _metadata(file)


def load_spec(path: Path, kind: type[SpecT]) -> SpecT:
    """The spec that a model file was built from. Raises CheckpointError if it is of another kind."""
    try:
        return read_spec(load_metadata(path), kind)
    except (LookupError, ValueError) as error:
        raise _foreign(path, error) from error


def read_spec(metadata: Mapping[str, Json], kind: type[SpecT]) -> SpecT:
    """The spec in the metadata of a model file. Raises KeyError or ValueError if it is missing or not a `kind`."""
    try:
        return kind.model_validate_json(json.dumps(metadata["spec"]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no valid {kind.__name__}") from error


def load_model(path: Path, build: Callable[[dict[str, Json]], ModelT], device: str = "cpu") -> ModelT:
    """Load a model from a file, in the mode in which `build` leaves it.

    Args:
        path: A file that `save_model` wrote.
        build: Builds the untrained model from the file's metadata. It is called first on the meta device, where tensors
            need no memory, so that a file cannot request a model that is larger than itself.
        device: Device of the model.

    Raises:
        CheckpointError: The file is damaged, or its metadata do not describe its weights.
    """
    metadata = load_metadata(path)
    try:
        with torch.device("meta"):
            shapes = build(metadata).state_dict()
        _check_layout(path, shapes)
        model = build(metadata).to(device)
    except CheckpointError:
        raise
    except Exception as error:  # the metadata are not trusted, so `build` can raise anything
        raise _foreign(path, error) from error
    return load_into(path, model, device)


def load_into(path: Path, model: ModelT, device: str = "cpu") -> ModelT:
    """Load all weights and buffers of `model` from a file. Raises CheckpointError as `load_weights` does."""
    model.load_state_dict(load_weights(path, model.state_dict(), device))
    return model


def load_weights(path: Path, expected: Mapping[str, torch.Tensor], device: str = "cpu") -> dict[str, torch.Tensor]:
    """Read the tensors of a file by name.

    Raises CheckpointError if the file is damaged, if names, shapes or types differ from `expected`, or if values are
    not finite; the message names the first such tensor.
    """
    _check_layout(path, expected)
    with _open_file(path, device) as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    check_finite(path, tensors)
    return tensors


def check_weights(
    place: Path | str, tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], remedy: str
) -> None:
    """Raise CheckpointError unless the tensors have the names, shapes and types of `expected` and only finite values.

    This is `load_weights` for tensors that are in memory already: those of others, which come from a URI, a `place`
    that the message names together with the `remedy`.
    """
    _compare_layout(place, {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}, expected, remedy)
    check_finite(place, tensors, remedy)


def check_finite(place: Path | str, tensors: Mapping[str, torch.Tensor], remedy: str = MAKE_ANEW) -> None:
    """Raise CheckpointError if a tensor that was read from a `place` holds NaN or infinite values."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            count = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(f"{place}: {name} has {count} values that are not finite; {remedy}")


def save_scratch(path: Path, tensors: Mapping[str, torch.Tensor], **metadata: Json) -> None:
    """Write a checkpoint from which a killed run resumes, with a digest of its content.

    Scratch files are not outputs, so dvc.lock has no hash that would reveal damage. Raises CheckpointError if it cannot
    be written.
    """
    plain = _on_cpu(tensors)
    _write(path, plain, metadata | {"digest": _digest(plain, metadata)})


def load_scratch(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Json]]:
    """Read a file that `save_scratch` wrote. Raises CheckpointError if a single bit of it has changed."""
    try:
        tensors, metadata = load(path)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is damaged ({error.__cause__})") from error
    recorded = metadata.pop("digest", None)
    if recorded != _digest(tensors, metadata):
        raise CheckpointError(f"{path} is damaged (its content does not match the recorded digest)")
    return tensors, metadata


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it is written again but can be inspected. Returns its new path."""
    renamed = path.with_name(f"{path.name}.damaged")
    with suppress(FileNotFoundError):  # another process of the same training has renamed it
        path.replace(renamed)
    return renamed


def _on_cpu(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}


def _write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Json]) -> None:
    # There is only one entry, because safetensors writes entries in the random order of a hash map. JSON keeps the
    # order of keys, which matters: the order of a reward's dimensions is that of all score vectors.
    text = json.dumps(metadata)
    try:
        with replacing(path) as temporary:
            save_file(dict(tensors), str(temporary), metadata={KEY: text})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error}); free space or make the folder writable, then run `dvc repro` again"
        ) from error


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Json]) -> str:
    """The hash of names, types, shapes and bytes of CPU tensors and of the metadata, as 32 hexadecimal digits."""
    state = hashlib.blake2b(json.dumps(metadata, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        state.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return state.hexdigest()


@contextmanager
def _open_file(path: Path, device: str = "cpu") -> Iterator[Any]:
    """Open a safetensors file; its errors are raised as CheckpointError."""
    try:
        with safe_open(str(path), framework="pt", device=device) as file:
            yield file
    except CheckpointError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); {MAKE_ANEW}") from error


def _metadata(file: Any) -> dict[str, Json]:
    """The metadata of an open file. Raises ValueError if they are not a mapping."""
    value = parse_json((file.metadata() or {}).get(KEY, "{}"))
    if not isinstance(value, dict):
        raise ValueError("its metadata are not a mapping")
    return value


def _check_layout(path: Path, expected: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError unless a file's tensors have the names, shapes and types of `expected`; reads no tensor."""
    with _open_file(path) as file:
        names = file.keys()
        slices = {name: file.get_slice(name) for name in names}
        found = {name: (tuple(s.get_shape()), DTYPES.get(s.get_dtype(), s.get_dtype())) for name, s in slices.items()}
    _compare_layout(path, found, expected, MAKE_ANEW)


def _compare_layout(
    place: Path | str,
    found: Mapping[str, tuple[tuple[int, ...], torch.dtype | str]],
    expected: Mapping[str, torch.Tensor],
    remedy: str,
) -> None:
    """Raise CheckpointError unless names, shapes and types that were `found` are those of `expected`."""
    for name in sorted(found.keys() | expected.keys()):
        what = None
        if name not in found:
            what = f"{name} is missing"
        elif name not in expected:
            what = f"{name} is not a weight of this model"
        else:
            (shape, dtype), wanted = found[name], expected[name]
            if shape != tuple(wanted.shape):
                what = f"{name} has the shape {shape}, not {tuple(wanted.shape)}"
            elif dtype != wanted.dtype:
                what = f"{name} is of type {dtype}, not {wanted.dtype}"
        if what is not None:
            raise CheckpointError(f"{place}: its weights do not fit its model: {what}; {remedy}")


def _foreign(path: Path, error: Exception) -> CheckpointError:
    """The error for a file whose metadata do not describe a model."""
    reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split()) or type(error).__name__
    message = f"has {reason}" if reason.startswith("no ") else f"its metadata do not describe a model ({reason})"
    return CheckpointError(f"{path}: {message}; run `dvc repro` to write it again")
