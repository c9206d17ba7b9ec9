"""A trained scorer's scores of the bench's pairs, computed by any number of workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import torch

from roboalign.bench.dataset import Scores, score_pairs
from roboalign.bench.pairs import Bench
from roboalign.pipeline.judges import has_request_limits
from roboalign.pipeline.sharding import MIN_CLIPS, ModelExecutor
from roboalign.reward.dimensions import Scorer
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run
from roboalign.store import Corpus

PIECE = 128
"""Pairs that a worker scores at a time."""


@dataclass(frozen=True)
class BenchScorer:
    """The files of a scorer and of the bench, which each process loads itself."""

    sources: Path
    bench: Path
    dimensions: tuple[str, ...]
    """Names of the reward's dimensions."""
    scorer: Path
    load: Callable[[Path, torch.device], Scorer]
    """Loads the scorer from its file; importable."""

    @classmethod
    def of(cls, run: Run, reward: RewardSpec, scorer: Path, load: Callable[[Path, torch.device], Scorer]) -> Self:
        """Scores the bench of a stage's experiment."""
        sources, bench = run.input("artifacts/sources/index.json"), run.input("artifacts/bench")
        return cls(sources, bench, reward.names, scorer, load)

    def score(self, rows: Sequence[int], executor: ModelExecutor) -> Scores:
        """Raw scores (S, N, 2, D) of the pairs `rows`.

        A scorer behind a server, whose requests are limited together, is asked by one process.
        """
        in_process = len(rows) < MIN_CLIPS or has_request_limits(self.scorer)
        pieces = [_PairsPiece(self, tuple(rows[start : start + PIECE])) for start in range(0, len(rows), PIECE)]
        parts = executor.map(_score_piece, pieces, in_process=in_process)
        return np.concatenate(list(parts), axis=1)


@dataclass(frozen=True)
class _PairsPiece:
    """Pairs that a worker scores."""

    files: BenchScorer
    rows: tuple[int, ...]


def _score_piece(piece: _PairsPiece, device: torch.device) -> Scores:
    """The scores (S, N, 2, D) of the pairs of a piece, by the scorer and the bench of this process."""
    files = piece.files
    return score_pairs(_load_scorer(files, device).sample, _open_bench(files), piece.rows)


@lru_cache(maxsize=1)
def _load_scorer(files: BenchScorer, device: torch.device) -> Scorer:
    return files.load(files.scorer, device)


@lru_cache(maxsize=1)
def _open_bench(files: BenchScorer) -> Bench:
    return Bench.open(files.bench, Corpus.open(files.sources), files.dimensions)
