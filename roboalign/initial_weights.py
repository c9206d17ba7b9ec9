"""Initial weights from elsewhere: fetched through fsspec, checked by hash, name, shape and value, then taken over."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError, safe_open
from torch import Tensor

from roboalign import checkpoint
from roboalign.checkpoint import CheckpointError
from roboalign.io import lfs_size, replacing
from roboalign.spec.base import Spec
from roboalign.spec.weights import WeightsFileSpec
from roboalign.types import Json

WEIGHTS = "model.safetensors"
"""The file of weights in a folder of ours, and in one of transformers."""


def fetch(init: WeightsFileSpec, name: str, folder: Path) -> Path:
    """The local path of the file `name` at `init.uri`; a remote one is copied into `folder`.

    Args:
        init: The place: a folder, or a `.safetensors` file, which then is the file that is meant, whatever `name` is.
        name: The file's name. The hash is checked if it ends in `.safetensors`.
        folder: Where copies of remote files go; one that is there already is not copied again.

    Raises:
        CheckpointError: The file cannot be read, or has another hash.
    """
    try:
        system, root = url_to_fs(init.uri)
        place = root if root.endswith(".safetensors") else f"{root.rstrip('/')}/{name}"
        shown = init.uri if place == root else f"{init.uri.rstrip('/')}/{name}"
        path = Path(place) if isinstance(system, LocalFileSystem) else folder / name
        if not isinstance(system, LocalFileSystem) and not path.exists():
            with replacing(path) as temporary:
                system.get_file(place, str(temporary))
        with path.open("rb") as file:
            size = lfs_size(file)
            found = hashlib.file_digest(file, "sha256").hexdigest() if name.endswith(".safetensors") else None
    except FileNotFoundError:
        raise CheckpointError(f"{init.uri} holds no {name}; correct `uri`") from None
    except Exception as error:  # a file system raises whatever its client does
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{init.uri}: {name} cannot be fetched: {reason}; correct `uri`, or try again") from None
    if size is not None:
        raise CheckpointError(f"{shown} is a Git LFS pointer, not the {size} bytes of the file; run `git lfs pull`")
    if found is not None and init.sha256 not in (None, found):
        raise CheckpointError(f"{shown}: its sha256 is {found}, the spec says {init.sha256}; correct one of the two")
    return path


def read_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which has these names and shapes, no others, and finite values alone.

    Raises CheckpointError, which names the first tensor that is not so.
    """
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = set(file.keys())
            for name in sorted(names | shapes.keys()):
                if name not in names:
                    raise CheckpointError(f"{path}: the weight {name} is missing; the file does not fit the spec")
                if name not in shapes:
                    raise CheckpointError(f"{path}: the weight {name} has no place in a model of this spec")
                shape = tuple(file.get_slice(name).get_shape())
                if shape != shapes[name]:
                    raise CheckpointError(
                        f"{path}: the weight {name} is {shape}, a model of this spec has {shapes[name]}"
                    )
            tensors = {name: file.get_tensor(name) for name in sorted(names)}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); get the file anew") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: the weight {name} holds NaN or infinite values; get the file anew")
    return tensors


def check_network(path: Path, spec: Spec, others: Collection[str]) -> dict[str, Json]:
    """The metadata of a checkpoint of ours, whose spec has all fields of `spec` but those named in `others`.

    Raises CheckpointError if the file is damaged, of another kind, or has another value of such a field.
    """
    metadata = checkpoint.load_metadata(path)
    try:
        theirs = checkpoint.read_spec(metadata, type(spec))
    except (LookupError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata hold {error}; it is not a checkpoint of this part") from None
    ours, wanted = theirs.model_dump(mode="json"), spec.model_dump(mode="json")
    for field in sorted(wanted.keys() - set(others)):
        if ours[field] != wanted[field]:
            raise CheckpointError(
                f"{path}: its {field} is {json.dumps(ours[field])}, the spec's is {json.dumps(wanted[field])}; make "
                "them equal"
            )
    return metadata


def load_state(path: Path, model: torch.nn.Module) -> None:
    """Set all weights of `model` to those of a file with the same names and shapes. Raises CheckpointError."""
    state = model.state_dict()
    model.load_state_dict(read_tensors(path, {name: tuple(tensor.shape) for name, tensor in state.items()}))


def describe(init: WeightsFileSpec, path: Path) -> str:
    """One line on the origin of initial weights, for a stage to print."""
    with path.open("rb") as file:
        return f"starts from {init.uri}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
