"""Initial weights of regression judges and students: a checkpoint of ours, with its vocabulary and its eyes."""

from pathlib import Path

from roboalign import checkpoint
from roboalign.checkpoint import CheckpointError
from roboalign.initial_weights import WEIGHTS, check_network, describe, fetch, load_state
from roboalign.reward.model import Blueprint, RewardModel, read_blueprint
from roboalign.reward.spec import RewardModelSpec
from roboalign.reward.text import Vocabulary
from roboalign.spec.weights import CheckpointInitSpec
from roboalign.types import Json

TRAINING_FIELDS = ("loss", "set_size", "group_share", "batch_size", "training", "init")
"""Fields of the spec that do not tell the network."""


def initial_vocabulary(spec: RewardModelSpec, folder: Path) -> Vocabulary | None:
    """The words that the weights of `spec.init` know, in their order; None without initial weights.

    Raises CheckpointError if the file cannot be read, or holds a model of another spec.
    """
    if spec.init is None:
        return None
    path = fetch(spec.init, WEIGHTS, folder)
    return _blueprint(path, check_network(path, spec, TRAINING_FIELDS)).vocabulary


def initialize_reward_model(model: RewardModel, init: CheckpointInitSpec, folder: Path) -> str:
    """Set the weights of `model`, its eyes included, to those of `init`. Returns what was loaded.

    Raises CheckpointError if the file cannot be read, was trained for other dimensions, or does not fit the model.
    """
    path = fetch(init, WEIGHTS, folder)
    theirs = _blueprint(path, checkpoint.load_metadata(path))
    if theirs.reward.names != model.reward.names:
        raise CheckpointError(
            f"{path}: scores {', '.join(theirs.reward.names)}, the reward has {', '.join(model.reward.names)}"
        )
    load_state(path, model)
    return describe(init, path)


def _blueprint(path: Path, metadata: dict[str, Json]) -> Blueprint:
    """What a file says of its reward model. Raises CheckpointError if it says nothing that is valid."""
    try:
        return read_blueprint(metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata describe no reward model ({error})") from None
