"""Initial LoRA matrices of the Qwen3-VL judge, from a checkpoint of ours."""

from pathlib import Path, PurePosixPath

from roboalign.checkpoint import CheckpointError
from roboalign.initial_weights import WEIGHTS, check_network, describe, fetch, read_tensors
from roboalign.judge.qwen3_vl import Qwen3VLJudge
from roboalign.spec.weights import CheckpointInitSpec

NETWORK_FIELDS = ("kind", "revision", "model_hash", "rank", "alpha", "target_modules")
"""Fields of the spec that must agree with the checkpoint's. Base models are compared by name: folders may differ."""


def initialize_qwen3_vl_judge(judge: Qwen3VLJudge, init: CheckpointInitSpec, folder: Path) -> str:
    """Set the LoRA matrices of `judge` to those of `init`. Returns what was loaded.

    Raises CheckpointError if the file cannot be read, or belongs to another base model.
    """
    path = fetch(init, WEIGHTS, folder)
    metadata = check_network(path, judge.spec, type(judge.spec).model_fields.keys() - set(NETWORK_FIELDS))
    names = [PurePosixPath(model).name for model in (metadata["spec"]["model"], judge.spec.model)]
    if names[0] != names[1]:
        raise CheckpointError(f"{path}: its base model is {names[0]}, the spec's is {names[1]}; make them equal")
    state = judge.adapter_state()
    try:
        judge.load_adapter_state(read_tensors(path, {name: tuple(tensor.shape) for name, tensor in state.items()}))
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not fit the base model {judge.spec.model} ({error})") from None
    return describe(init, path)
