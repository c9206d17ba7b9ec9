"""Initial weights of the world model: from a checkpoint of ours, or from a LLaMA in Hugging Face's layout."""

from pathlib import Path

from roboalign import checkpoint
from roboalign.checkpoint import CheckpointError
from roboalign.initial_weights import WEIGHTS, check_network, describe, fetch, load_state
from roboalign.spec.weights import CheckpointInitSpec, Init
from roboalign.world_model.huggingface import CONFIG, load_llama
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel

TRAINING_FIELDS = (
    "segment", "dropout", "corruption", "context_corruption", "ema_decay", "change_weight", "early_fraction",
    "training", "init", "measure", "max_position_embeddings",
)  # fmt: skip
"""Fields of the spec that do not determine the shapes of the weights."""


def initialize_world_model(model: WorldModel, init: Init, folder: Path) -> str:
    """Set the weights of `model` to those of `init`; remote files are kept in `folder`. Returns what was loaded.

    RLVR-World publishes LLaMAs in Hugging Face's layout, and `export` writes a model that is a plain LLaMA in the same.
    Raises CheckpointError if the files cannot be read or do not fit the model's spec.
    """
    path = fetch(init, WEIGHTS, folder)
    if isinstance(init, CheckpointInitSpec) and checkpoint.load_metadata(path):
        metadata = check_network(path, model.spec, TRAINING_FIELDS)
        try:
            shape = TokenShape.load(metadata["shape"])
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{path}: its metadata hold no token shape; it is not a world model") from None
        if shape != model.shape:
            raise CheckpointError(
                f"{path}: was trained on {shape}, tokenizer and sources give {model.shape}; make them equal"
            )
        load_state(path, model)
    else:
        fetch(init, CONFIG, folder)
        load_llama(model, path.parent)
    return describe(init, path)
