"""Specs of initial weights: the fields `init`, by kind."""

from typing import Annotated, Literal

from pydantic import Field

from roboalign.spec.base import FieldError, Spec
from roboalign.spec.training import TrainingSpec


class WeightsFileSpec(Spec):
    """Fields of every kind of initial weights: URI and hash."""

    uri: Annotated[str, Field(min_length=1, max_length=1000)]
    """A folder, or a `.safetensors` file: a path, or a URI that fsspec opens (`hf://owner/name`, s3://, https://)."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Hash of the weights file; the stage fails if the content differs. Without a hash, changes behind the URI are not
    detected; the stage prints the hash of the loaded file."""


class CheckpointInitSpec(WeightsFileSpec):
    """Weights of this package: a stage's `model.safetensors`, or a folder written by `python -m roboalign export`."""

    kind: Literal["checkpoint"]


class RlvrWorldInitSpec(WeightsFileSpec):
    """Folder of a tokenizer or multi-step world model as published by RLVR-World (thuml/rt1-…)."""

    kind: Literal["rlvr_world"]


Init = Annotated[CheckpointInitSpec | RlvrWorldInitSpec, Field(discriminator="kind")]
"""Initial weights of a tokenizer or a world model, by kind."""


def require_weights(training: TrainingSpec, init: WeightsFileSpec | None) -> None:
    """Raise FieldError if a part is neither trained nor imported."""
    if training.steps == 0 and init is None:
        raise FieldError("training.steps", "0 steps would leave random weights; raise them, or set init")
