"""The frames, labels and scores of clips, as this installation computes them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from roboalign.bench.dataset import score_pairs
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.labels import Scores
from roboalign.bench.pairs import Bench, BenchError, Pair
from roboalign.checkpoint import CheckpointError
from roboalign.evaluation.spec import ScorerName
from roboalign.pipeline.judges import load_judge
from roboalign.reference.records import ReferenceScores
from roboalign.reward.dimensions import Scorer
from roboalign.student.model import load_student
from roboalign.types import UInt8

SCORERS: tuple[ScorerName, ...] = ("judge", "student")
MODEL = "model.safetensors"

GRID = 4
"""Rows and columns of cells of a frame."""


def scorer_path(models: Path, name: ScorerName) -> Path:
    """The checkpoint of a scorer in a folder such as `artifacts/`."""
    return models / name / MODEL


def score_clips(path: Path, name: ScorerName, bench: Bench, root: Path, device: str) -> list[ReferenceScores]:
    """The scores of all pairs of a bench by the scorer in a checkpoint. Raises BenchError if it cannot be read.

    Args:
        path: The checkpoint.
        name: The scorer: judge or student.
        bench: The bench.
        root: The checkout, whose `.scratch/` keeps the answers of a judge behind a server.
        device: `cpu` or `cuda`.
    """
    place = torch.device(device)
    try:
        scorer: Scorer = load_student(path).to(place) if name == "student" else load_judge(path, place, root)
    except CheckpointError as error:
        raise BenchError(str(error)) from None
    scores = score_pairs(scorer.sample, bench, range(len(bench))).mean(0)
    return [to_record(absolute, faithful) for absolute, faithful in scores]


def to_record(absolute: Sequence[float] | Scores, faithful: Sequence[float] | Scores) -> ReferenceScores:
    """Raw scores (D,) of both kinds as a record; NaN, from a scorer that needs actions, becomes None."""
    known = not np.isnan(np.asarray(faithful)).any()
    return ReferenceScores(
        absolute=tuple(map(float, absolute)), faithful=tuple(map(float, faithful)) if known else None
    )


def is_determined(pair: Pair) -> bool:
    """Whether recorded states and declared losses determine a pair's label: generated clips are labelled through a
    state probe, annotated ones by raters."""
    return pair.generated < 0 and pair.provenance not in ("people", "vlm")


def compute_label(labeller: PairLabeller, pair: Pair) -> ReferenceScores:
    """The label of a pair, computed again from its recipe and the records of its episodes."""
    labelled = labeller.label(pair)
    return to_record(labelled.scores, labelled.faithful)


def frames_digest(frames: UInt8) -> str:
    """The hash of a clip's frames, 32 hex digits."""
    return hashlib.blake2b(np.ascontiguousarray(frames).tobytes(), digest_size=16).hexdigest()


def cell_levels(frames: UInt8) -> tuple[float, ...]:
    """The mean grey level of each cell of a grid of GRID x GRID of each frame (T, H, W, 3), rounded to three digits."""
    grey = frames.mean(3)
    rows = [cell for row in np.array_split(grey, GRID, axis=1) for cell in np.array_split(row, GRID, axis=2)]
    levels = np.stack([cell.mean((1, 2)) for cell in rows], axis=1)
    return tuple(round(float(level), 3) for level in levels.reshape(-1))
