"""Loads a judge or a student from its checkpoint, with the calibration beside it."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from roboalign.bench.calibration import Calibration
from roboalign.checkpoint import CheckpointError, load_metadata
from roboalign.errors import StageError
from roboalign.evaluation.spec import ScorerName
from roboalign.export.folder import CALIBRATION, WEIGHTS
from roboalign.initial_weights import fetch
from roboalign.io import digest
from roboalign.pipeline.judges import load_judge
from roboalign.reward.dimensions import ABSOLUTE, Scorer
from roboalign.reward.model import RewardModel
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.spec.weights import WeightsFileSpec
from roboalign.student.model import load_student

FOLDERS: dict[str, Path] = {"judge": Path("artifacts/judge"), "student": Path("artifacts/student")}
"""The folders of an experiment's scorers."""


class JudgeError(Exception):
    """A scorer cannot be used. The message states the reason and the remedy."""


@dataclass(frozen=True)
class LoadedJudge:
    """A scorer with its calibration."""

    scorer: ScorerName
    """`judge` for a judge of any kind, or `student`."""
    digest: str
    """The hash of its checkpoint."""
    reward: RewardSpec
    vocabulary: Vocabulary | None
    """Vocabulary of its training; None for a judge without a fixed vocabulary."""
    calibration: Calibration
    sample: Callable[[Tensor, Sequence[str]], Tensor]
    """Maps clips (B, T, 3, H, W), uint8, and instructions to raw absolute scores (S, B, D)."""


def load(which: str, root: Path, device: str) -> LoadedJudge:
    """Load a scorer.

    Args:
        which: `judge` or `student` of the experiment at `root`; the path of a checkpoint or its folder; or the URI of
            a folder that `export` wrote, such as hf://owner/name.
        root: The checkout.
        device: `cpu` or `cuda`.

    Raises:
        JudgeError: The scorer is missing or damaged, or has no calibration.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise JudgeError("torch finds no CUDA device; omit --device")
    if "://" in which:
        with tempfile.TemporaryDirectory() as scratch:
            return _load_file(_download(which, Path(scratch)), device, root)
    folder = root / FOLDERS[which] if which in FOLDERS else Path(which)
    path = folder / WEIGHTS if folder.is_dir() or which in FOLDERS else folder
    if not path.exists():
        remedy = "run `dvc repro` or `dvc pull`" if which in FOLDERS else "name judge, student, or a judge's file"
        raise JudgeError(f"{path} is missing; {remedy}")
    return _load_file(path, device, root)


def _download(uri: str, folder: Path) -> Path:
    """Copy the files of a judge's folder at `uri` into `folder`; the path of its weights. Raises JudgeError."""
    try:
        place = WeightsFileSpec(uri=uri)
        fetch(place, CALIBRATION, folder)
        return fetch(place, WEIGHTS, folder)
    except (CheckpointError, ValidationError) as error:
        raise JudgeError(f"--judge: {error}") from None


def _load_file(path: Path, device: str, root: Path) -> LoadedJudge:
    """The scorer in a file with its calibration. Raises JudgeError."""
    try:
        calibration = Calibration.model_validate_json((path.parent / CALIBRATION).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        raise JudgeError(
            f"{path.parent / CALIBRATION} is missing or damaged, but needed for intervals; run `dvc repro`, whose "
            "stages judge and student write it, or `export` again"
        ) from None
    try:
        kind: ScorerName = "judge" if _is_judge(path) else "student"
        scorer: Scorer = load_judge(path, device, root) if kind == "judge" else load_student(path).to(device)
    except (CheckpointError, StageError) as error:
        raise JudgeError(str(error)) from None
    vocabulary = scorer.vocabulary if isinstance(scorer, RewardModel) else None
    return LoadedJudge(
        kind, digest([path]), scorer.reward, vocabulary, calibration,
        lambda videos, instructions: scorer.sample(videos, instructions)[:, :, ABSOLUTE],
    )  # fmt: skip


def _is_judge(path: Path) -> bool:
    """Whether a checkpoint is a judge's: only judges' specs have a `kind`. Raises CheckpointError if it is damaged."""
    spec = load_metadata(path).get("spec")
    return isinstance(spec, dict) and "kind" in spec
