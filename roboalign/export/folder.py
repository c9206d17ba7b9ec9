"""`python -m roboalign export`: a trained part as a folder with weights, config.json and a model card.

The folder of a judge or student also has the calibration, with which `score --judge FOLDER|URI` needs no experiment.

A world model that is a plain LLaMA is written in transformers' layout, every other part with its own names of weights.
Both are read again by `init: {kind: checkpoint}`.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from roboalign import __version__, checkpoint
from roboalign.bench.calibration import Calibration
from roboalign.checkpoint import CheckpointError
from roboalign.export.card import card
from roboalign.io import read_json, write_json, write_text
from roboalign.types import Json
from roboalign.world_model.huggingface import export_llama, is_plain_llama
from roboalign.world_model.model import load_world_model

Part = Literal["tokenizer", "world_model", "rl", "judge", "held_out", "student"]
PARTS = get_args(Part)
"""The parts that can be exported: stages that train a model; `rl` is the aligned world model."""

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FILES = (WEIGHTS, CONFIG, CARD)
"""The files of every exported folder."""

CALIBRATION = "calibration.json"
"""The file of a judge's or student's folder from which `score` computes intervals."""


def stage_of(part: Part) -> str:
    """The stage that trains a part, as DVC names it."""
    return f"judge@{part}" if part in ("judge", "held_out") else part


def export_part(root: Path, part: Part, folder: Path, inputs: Mapping[str, str], revision: str) -> None:
    """Write a part of the experiment in the checkout `root` into `folder`.

    `inputs` are the MD5 of what its stage read, by path, and `revision` is the checkout's commit, for the card.
    Raises CheckpointError if the part was not trained, or its file is damaged.
    """
    path = root / f"artifacts/{part}/{WEIGHTS}"
    if not path.exists():
        stage = stage_of(part)
        raise CheckpointError(f"{path} is missing; run `dvc repro {stage}` or `dvc pull {stage}`")
    tensors, metadata = checkpoint.load(path)
    checkpoint.check_finite(path, tensors)
    public = {name: hide_folders(value) for name, value in metadata.items()}
    spec = public.get("spec")
    if not isinstance(spec, dict):
        raise CheckpointError(f"{path} holds no spec; run `dvc repro {stage_of(part)}`")
    folder.mkdir(parents=True, exist_ok=True)
    described = {"part": part, "version": __version__, **{k: v for k, v in public.items() if k != "vocabulary"}}
    model = load_world_model(path) if part in ("world_model", "rl") else None
    if model is not None and is_plain_llama(model.spec):
        export_llama(model, folder)
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        write_json(folder / CONFIG, settings | {"roboalign": described})
    else:
        checkpoint.save(folder / WEIGHTS, tensors, **public)
        write_json(folder / CONFIG, {"model_type": f"roboalign_{part}", "roboalign": described})
    calibration = path.with_name(CALIBRATION)
    if calibration.exists():
        write_json(folder / CALIBRATION, _read_calibration(calibration, stage_of(part)))
    metrics = root / f"metrics/{part}.json"
    text = card(
        part, spec, read_json(metrics) if metrics.exists() else {}, inputs, revision,
        str(metadata.get("provenance", "")), parameters=sum(tensor.numel() for tensor in tensors.values()),
        llama=model is not None and is_plain_llama(model.spec),
    )  # fmt: skip
    write_text(folder / CARD, text)


def _read_calibration(path: Path, stage: str) -> Json:
    """The content of a calibration file. Raises CheckpointError if it is damaged."""
    try:
        return Calibration.model_validate_json(path.read_bytes()).model_dump(mode="json")
    except ValueError:
        raise CheckpointError(f"{path} is damaged; run `dvc repro {stage}`") from None


def hide_folders(value: Json) -> Json:
    """`value` without the folders of absolute paths in it: they tell of the machine, and mean nothing on another."""
    if isinstance(value, Mapping):
        return {name: hide_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide_folders(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~", "file://")):
        return PurePosixPath(value).name
    return value
