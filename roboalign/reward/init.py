"""Initial weights of regression judges and students: a checkpoint of ours, with its vocabulary and its eyes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from roboalign import checkpoint
from roboalign.checkpoint import CheckpointError
from roboalign.initial_weights import WEIGHTS, check_network, describe, fetch, load_state
from roboalign.reward.model import RewardModel, read_reward, read_vocabulary
from roboalign.reward.spec import RewardModelSpec
from roboalign.reward.text import Vocabulary
from roboalign.spec.weights import CheckpointInitSpec
from roboalign.types import Json

T = TypeVar("T")

TRAINING_FIELDS = ("loss", "set_size", "group_share", "batch_size", "training", "init")
"""Fields of the spec that do not tell the network."""


def initial_vocabulary(spec: RewardModelSpec, folder: Path) -> Vocabulary | None:
    """The words that the weights of `spec.init` know, in their order; None without initial weights.

    Raises CheckpointError if the file cannot be read, or holds a model of another spec.
    """
    if spec.init is None:
        return None
    path = fetch(spec.init, WEIGHTS, folder)
    return _read(path, check_network(path, spec, TRAINING_FIELDS), read_vocabulary)


def initialize_reward_model(model: RewardModel, init: CheckpointInitSpec, folder: Path) -> str:
    """Set the weights of `model`, its eyes included, to those of `init`. Returns what was loaded.

    Raises CheckpointError if the file cannot be read, was trained for other dimensions, or does not fit the model.
    """
    path = fetch(init, WEIGHTS, folder)
    reward = _read(path, checkpoint.load_metadata(path), read_reward)
    if reward.names != model.reward.names:
        raise CheckpointError(
            f"{path}: scores {', '.join(reward.names)}, the reward has {', '.join(model.reward.names)}"
        )
    load_state(path, model)
    return describe(init, path)


def _read(path: Path, metadata: dict[str, Json], read: Callable[[Mapping[str, Json]], T]) -> T:
    """Read a part of a file's metadata. Raises CheckpointError if it is missing or not valid."""
    try:
        return read(metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata describe no reward model ({error})") from None
