"""Initial weights of the tokenizer: from a checkpoint of ours, or from RLVR-World's published files."""

import json
from pathlib import Path
from typing import assert_never

from roboalign.checkpoint import CheckpointError
from roboalign.initial_weights import WEIGHTS, check_network, describe, fetch, load_state, read_tensors
from roboalign.spec.weights import CheckpointInitSpec, Init, RlvrWorldInitSpec
from roboalign.tokenizer import rlvr_world
from roboalign.tokenizer.compressive import CompressiveTokenizer
from roboalign.tokenizer.interface import Tokenizer

TRAINING_FIELDS = ("loss", "adversarial", "samples", "training", "init")
"""Fields of the spec that do not determine the shapes of the weights."""


def initialize_tokenizer(model: Tokenizer, init: Init, folder: Path) -> str:
    """Set the weights of `model` to those of `init`; remote files are kept in `folder`. Returns what was loaded.

    Raises CheckpointError if the files cannot be read or do not fit the model's spec.
    """
    match init:
        case CheckpointInitSpec():
            path = fetch(init, WEIGHTS, folder)
            check_network(path, model.spec, TRAINING_FIELDS)
            load_state(path, model)
        case RlvrWorldInitSpec():
            file, path = (fetch(init, name, folder) for name in (rlvr_world.CONFIG, rlvr_world.WEIGHTS))
            try:
                config = json.loads(file.read_text(encoding="utf-8"))
                differences = list(rlvr_world.config_differences(model.spec, config))
            except (OSError, ValueError, AttributeError) as error:
                raise CheckpointError(f"{file}: is not the config of a tokenizer ({error})") from None
            if differences:
                raise CheckpointError(f"{file}: {'; '.join(differences)}")
            assert isinstance(model, CompressiveTokenizer)
            model.load_state_dict(rlvr_world.convert(model, read_tensors(path, rlvr_world.peer_shapes(model))))
        case _:
            assert_never(init)
    return describe(init, path)
