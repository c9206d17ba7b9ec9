"""`python -m roboalign export`: a trained part as a folder with weights, config.json and a model card.

A world model that is a plain LLaMA is written in transformers' layout, every other part with its own names of weights.
Both are read again by `init: {kind: checkpoint}`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from roboalign import __version__, checkpoint
from roboalign.checkpoint import CheckpointError
from roboalign.export.card import card
from roboalign.io import read_json, write_json, write_text
from roboalign.spec.lock import read_lock
from roboalign.spec.plan import git
from roboalign.types import Json
from roboalign.world_model.huggingface import export_llama, is_plain_llama
from roboalign.world_model.model import load_world_model

Part = Literal["tokenizer", "world_model", "rl", "judge", "held_out", "student"]
PARTS = get_args(Part)
"""What can be exported: the stages that train a model; `rl` is the aligned world model."""

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FILES = (WEIGHTS, CONFIG, CARD)
"""The files of an exported folder."""


@dataclass(frozen=True)
class Provenance:
    """What a part was made from and by."""

    spec: dict[str, Json]
    """Its resolved spec."""
    inputs: dict[str, str]
    """MD5 of what its stage read, by path, as dvc.lock records it."""
    revision: str
    """The commit of the checkout, with `+` if tracked files differ from it; empty outside of git."""
    digest: str
    """The hash of all that went in, as the checkpoint records it."""


def export_part(root: Path, part: Part, folder: Path) -> None:
    """Write a part of the experiment in the checkout `root` into `folder`.

    Raises CheckpointError if the part was not trained, or its file is damaged.
    """
    path = root / f"artifacts/{part}/{WEIGHTS}"
    if not path.exists():
        raise CheckpointError(f"{path} is missing; run `dvc repro {part}` or `dvc pull {part}`")
    tensors, metadata = checkpoint.load(path)
    checkpoint.check_finite(path, tensors)
    public = {name: hide_folders(value) for name, value in metadata.items()}
    spec = public.get("spec")
    if not isinstance(spec, dict):
        raise CheckpointError(f"{path} holds no spec; run `dvc repro {part}`")
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
    metrics = root / f"metrics/{part}.json"
    provenance = Provenance(spec, input_hashes(root, part), revision(root), str(metadata.get("provenance", "")))
    text = card(
        part, provenance.spec, read_json(metrics) if metrics.exists() else {}, provenance.inputs,
        provenance.revision, provenance.digest, parameters=sum(tensor.numel() for tensor in tensors.values()),
        llama=model is not None and is_plain_llama(model.spec),
    )  # fmt: skip
    write_text(folder / CARD, text)


def hide_folders(value: Json) -> Json:
    """`value` without the folders of absolute paths in it: they tell of the machine, and mean nothing on another."""
    if isinstance(value, Mapping):
        return {name: hide_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide_folders(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~", "file://")):
        return PurePosixPath(value).name
    return value


def input_hashes(root: Path, part: Part) -> dict[str, str]:
    """The MD5 of what the part's stage read in its last run; empty if dvc.lock does not hold the stage."""
    locked = read_lock(root).get(part)
    return {} if locked is None else {path: str(dep["md5"]) for path, dep in locked.deps.items() if "md5" in dep}


def revision(root: Path) -> str:
    """The commit of the checkout, with `+` if tracked files differ from it; empty outside of git."""
    commit = (git(root, "rev-parse", "HEAD") or "").strip()
    changed = commit and (git(root, "status", "--porcelain", "--untracked-files=no") or "").strip()
    return f"{commit}+" if changed else commit
