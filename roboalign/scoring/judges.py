"""A judge or a student from its file, with its calibration beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from roboalign.bench.calibration import Calibration
from roboalign.checkpoint import CheckpointError, load_metadata
from roboalign.evaluation.spec import ScorerName
from roboalign.io import digest
from roboalign.pipeline.judges import load_judge
from roboalign.reward.dimensions import ABSOLUTE, Scorer
from roboalign.reward.model import RewardModel
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.student.model import load_student

PLACES: dict[str, Path] = {"judge": Path("artifacts/judge"), "student": Path("artifacts/student")}
"""Where an experiment keeps its scorers."""

MODEL, CALIBRATION = "model.safetensors", "calibration.json"


class JudgeError(Exception):
    """A judge cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class LoadedJudge:
    """A scorer with what it knows."""

    scorer: ScorerName
    """What it is: a judge of any kind, which scores a clip several times, or a student."""
    digest: str
    """The hash of its weights' file."""
    reward: RewardSpec
    vocabulary: Vocabulary | None
    """The words that it knows; None for a judge that reads any text."""
    calibration: Calibration
    sample: Callable[[Tensor, Sequence[str]], Tensor]
    """Clips (B, T, 3, H, W), uint8, and instructions to raw absolute scores (S, B, D)."""


def load(which: str, root: Path, device: str) -> LoadedJudge:
    """The scorer `judge` or `student` of the experiment at `root`, or the one in a file or folder of that name.

    Raises JudgeError where it is missing, damaged, or has no calibration.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise JudgeError("torch sees no CUDA device; leave --device out")
    folder = root / PLACES[which] if which in PLACES else Path(which)
    path = folder / MODEL if folder.is_dir() or which in PLACES else folder
    if not path.exists():
        remedy = "run `dvc repro` or `dvc pull`" if which in PLACES else "name judge, student, or a judge's file"
        raise JudgeError(f"{path} is missing; {remedy}")
    try:
        calibration = Calibration.model_validate_json((path.parent / CALIBRATION).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        raise JudgeError(
            f"{path.parent / CALIBRATION} is missing or damaged, without which there are no intervals; the stages "
            "judge and student write it: run `dvc repro`"
        ) from None
    try:
        kind: ScorerName = "judge" if _is_judge(path) else "student"
        scorer: Scorer = load_judge(path, device, root) if kind == "judge" else load_student(path).to(device)
    except CheckpointError as error:
        raise JudgeError(str(error)) from None
    vocabulary = scorer.vocabulary if isinstance(scorer, RewardModel) else None
    return LoadedJudge(
        kind, digest([path]), scorer.reward, vocabulary, calibration,
        lambda videos, instructions: scorer.sample(videos, instructions)[:, :, ABSOLUTE],
    )  # fmt: skip


def _is_judge(path: Path) -> bool:
    """Whether a model file is a judge's: only judges come in kinds. Raises CheckpointError if it is damaged."""
    spec = load_metadata(path).get("spec")
    return isinstance(spec, dict) and "kind" in spec
