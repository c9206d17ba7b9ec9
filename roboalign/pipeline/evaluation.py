"""The scores of all clip sets by all scorers, computed by any number of workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from roboalign.evaluation.clips import ClipSet, read_clip_sets, true_clips
from roboalign.evaluation.scoring import GoldScorer, ScoredSet, Scorer, best_of_n, score
from roboalign.evaluation.spec import ComparisonSpec, EvaluationSpec, ScorerName
from roboalign.pipeline.judges import has_request_limits
from roboalign.pipeline.scorers import MODEL, GoldFiles, make_gold_scorer, open_scorer
from roboalign.pipeline.sharding import MIN_CLIPS, ModelExecutor
from roboalign.reward.dimensions import mean_scores
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run
from roboalign.store import Corpus

TRUTH = "ground_truth"
"""The set of the recorded clips of the episodes."""


@dataclass(frozen=True)
class ScoringInputs:
    """The files of clips and scorers, which each process loads itself."""

    sources: Path
    rollouts: Path
    scorers: tuple[tuple[ScorerName, Path], ...]
    gold: GoldFiles | None
    reward: str
    """The rubric's RewardSpec in JSON."""
    batch_size: int
    """Clips scored at once."""
    root: Path

    @classmethod
    def of(cls, run: Run, spec: EvaluationSpec, reward: RewardSpec) -> "ScoringInputs":
        """The files of the evaluation stage."""
        return cls(
            run.input("artifacts/sources/index.json"), run.input("artifacts/rollout"),
            tuple((name, run.input(f"artifacts/{name}/{MODEL}")) for name in spec.scorers),
            GoldFiles.of(run) if spec.gold else None, reward.model_dump_json(), spec.batch_size, run.root,
        )  # fmt: skip


@dataclass(frozen=True)
class _ScoringPiece:
    """Some rows of a clip set; `truth` stands for the recorded clips of its episodes."""

    inputs: ScoringInputs
    name: str
    rows: tuple[int, ...]
    truth: bool = False
    candidates: bool = False
    """Candidates of best-of-N, which the student alone scores."""


def score_clip_sets(inputs: ScoringInputs, executor: ModelExecutor, log: Callable[[str], None]) -> dict[str, ScoredSet]:
    """The scores of the recorded clips, by the name TRUTH, and of all scorable clip sets, by their names. Of
    candidates of best-of-N, the student picks the best, which alone are scored by the others.

    Workers score a batch of one set at a time. A scorer behind a server, whose requests are limited together, is asked
    by one process. `log` gets lines of progress.
    """
    sets = _read_sets(inputs.rollouts)
    widest = max(sets.values(), key=lambda one: len(set(one.episodes)))
    clips = sum(len(one.episodes) for one in sets.values())
    limited = any(has_request_limits(path) for _, path in inputs.scorers)
    in_process = limited or clips < MIN_CLIPS
    pieces = {TRUTH: _split(inputs, widest.name, range(len(set(widest.episodes))), truth=True)}
    for name, one in sets.items():
        rows = _pick_best(inputs, one, executor, in_process) if one.best_of_n else range(len(one.episodes))
        pieces[name] = _split(inputs, name, rows)
    work = [piece for parts in pieces.values() for piece in parts]
    results = executor.map(_score_piece, work, in_process=in_process)
    scored = {}
    for number, (name, parts) in enumerate(pieces.items()):
        scored[name] = ScoredSet.concatenate([next(results) for _ in parts])
        log(f"scored {name}, {number} of {len(sets)} clip sets")
    return scored


def _pick_best(inputs: ScoringInputs, clip_set: ClipSet, executor: ModelExecutor, in_process: bool) -> Sequence[int]:
    """The row of the best candidate of each episode by the student's faithful total."""
    pieces = _split(inputs, clip_set.name, range(len(clip_set.episodes)), candidates=True)
    candidates = ScoredSet.concatenate(list(executor.map(_score_piece, pieces, in_process=in_process)))
    best = best_of_n(candidates, "student_faithful")
    kept = set(zip(best.episodes, best.samples, strict=True))
    return [row for row, key in enumerate(zip(clip_set.episodes, clip_set.samples, strict=True)) if key in kept]


def best_of_comparisons(inputs: ScoringInputs) -> list[ComparisonSpec]:
    """The comparisons of best-of-N: of each model with its own single samples; and of the aligned model with the
    supervised one's best-of-N, which is what alignment adds to it, and with its single samples, which is what both do
    together."""
    sets = [one for one in _read_sets(inputs.rollouts).values() if one.best_of_n]
    pairs = [(one.name, f"{one.model}.{one.decoding}.{one.sampling}") for one in sets]
    pairs += [
        (one.name, f"supervised.{rest}")
        for one in sets
        if one.model == "aligned"
        for rest in (one.name.partition(".")[2], f"{one.decoding}.{one.sampling}")
    ]
    return [ComparisonSpec(model=name, against=against) for name, against in pairs]


def _split(
    inputs: ScoringInputs, name: str, rows: Sequence[int], *, truth: bool = False, candidates: bool = False
) -> Sequence[_ScoringPiece]:
    """The rows of a set in batches."""
    size = inputs.batch_size
    return [
        _ScoringPiece(inputs, name, tuple(rows[start : start + size]), truth, candidates)
        for start in range(0, len(rows), size)
    ]


def _score_piece(piece: _ScoringPiece, device: torch.device) -> ScoredSet:
    """The scores of a piece by the scorers of this process."""
    inputs, clip_set = piece.inputs, _read_sets(piece.inputs.rollouts)[piece.name]
    corpus = _load_corpus(inputs.sources)
    clips = true_clips(corpus, clip_set, piece.rows) if piece.truth else clip_set.clips(piece.rows)
    gold = None if inputs.gold is None or piece.candidates else _load_gold_scorer(inputs, device)
    name, scorers = TRUTH if piece.truth else piece.name, _load_scorers(inputs, device)
    if piece.candidates:
        scorers = {"student": scorers["student"]}
    return score(name, clips, scorers, inputs.batch_size, str(device), gold)


@cache
def _read_sets(folder: Path) -> dict[str, ClipSet]:
    """The scorable clip sets by name."""
    return {name: one for name, one in read_clip_sets(folder).items() if one.is_scorable}


@cache
def _load_corpus(sources: Path) -> Corpus:
    return Corpus.open(sources).filter(split="test")


@cache
def _load_scorers(inputs: ScoringInputs, device: torch.device) -> Mapping[ScorerName, Scorer]:
    """The learned scorers, loaded once in a process."""
    return {
        name: partial(mean_scores, open_scorer(name, path, device, inputs.root)) for name, path in inputs.scorers
    }  # fmt: skip


@cache
def _load_gold_scorer(inputs: ScoringInputs, device: torch.device) -> GoldScorer:
    """The gold scorer, loaded once in a process."""
    assert inputs.gold is not None
    gold = inputs.gold.load(RewardSpec.model_validate_json(inputs.reward), device)
    return make_gold_scorer(gold, _load_corpus(inputs.sources))
