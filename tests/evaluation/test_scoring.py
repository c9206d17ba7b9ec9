"""Scores, picks, intervals and paired differences, with scorers whose answers are known."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from roboalign.evaluation.clips import Clip
from roboalign.evaluation.scoring import (
    ScoredSet,
    best_of_n,
    comparisons,
    difference,
    evaluate,
    rows,
    score,
    strongest_baseline,
)
from roboalign.evaluation.spec import ComparisonSpec, EvaluationSpec

DIMENSIONS = ("brightness", "length")
SPEC = EvaluationSpec(draws=400)


class Brightness:
    """Scores the mean brightness, and the number of words of the instruction."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, videos: Tensor, instructions: Sequence[str], actions: Tensor) -> Tensor:
        assert actions.shape == (len(videos), videos.shape[1] - 1, 4)
        assert videos.shape[2] == 3
        assert float(videos.max()) <= 1
        self.batches.append(len(videos))
        words = torch.tensor([float(len(text.split())) for text in instructions])
        absolute = torch.stack([videos.mean((1, 2, 3, 4)), words], 1)
        return torch.stack([absolute, absolute / 2], 1)


def clip(episode: int, level: int, *, sample: int = 0, frames: int = 3) -> Clip:
    return Clip(
        f"toy/{episode}",
        sample,
        "push it",
        np.full((frames, 4, 4, 3), level, np.uint8),
        np.zeros((frames - 1, 4), np.float32),
    )


def scored(name: str, totals: Sequence[float], samples: int = 1) -> ScoredSet:
    """One dimension holds the score, the other is 0; `samples` rows an episode."""
    episodes = tuple(f"toy/{row // samples}" for row in range(len(totals)))
    values = np.stack([np.asarray(totals), np.zeros(len(totals))], 1)
    numbers = tuple(row % samples for row in range(len(totals)))
    return ScoredSet(name, episodes, numbers, {"student": values, "judge": values})


def test_every_clip_is_scored_once_by_every_scorer() -> None:
    student = Brightness()
    clips = [clip(n, 51 * n) for n in range(3)] + [clip(3, 255, frames=5)]
    result = score("toy", clips, {"student": student, "judge": Brightness()}, batch=2)
    assert student.batches == [2, 1, 1], "two a batch, and no batch of two lengths"
    assert result.episodes == ("toy/0", "toy/1", "toy/2", "toy/3")
    expected = np.array([[0, 2], [0.2, 2], [0.4, 2], [1, 2]])
    np.testing.assert_allclose(result.scores["student"], expected, atol=1e-6)
    np.testing.assert_array_equal(result.scores["judge"], result.scores["student"])
    np.testing.assert_allclose(result.scores["student_faithful"], expected / 2, atol=1e-6)


def test_the_batch_does_not_change_scores() -> None:
    clips = [clip(n, 40 * n) for n in range(5)]
    one, many = (score("toy", clips, {"student": Brightness()}, batch) for batch in (1, 5))
    np.testing.assert_array_equal(one.scores["student"], many.scores["student"])


def test_a_scorer_that_answers_nonsense_is_named() -> None:
    with pytest.raises(ValueError, match=r"the scorer judge returned invalid scores .* for toy"):
        score("toy", [clip(0, 9)], {"judge": lambda videos, *_: torch.ones(1, 2)}, 1)
    with pytest.raises(ValueError, match=r"the scorer judge returned invalid scores .* for toy"):
        score("toy", [clip(0, 9)], {"judge": lambda videos, *_: torch.full((1, 2, 2), float("nan"))}, 1)
    with pytest.raises(ValueError, match="empty"):
        score("toy", [], {"student": Brightness()}, 1)


def test_best_of_n_takes_the_first_of_the_highest_by_one_scorer_only() -> None:
    student = np.array([[1.0, 0], [3, 0], [3, 0], [5, 0], [2, 2]])
    judge = np.array([[9.0, 0], [1, 0], [2, 0], [3, 0], [8, 0]])
    candidates = ScoredSet("n", ("a", "a", "a", "b", "b"), (0, 1, 2, 0, 1), {"student": student, "judge": judge})
    best = best_of_n(candidates, "student")
    assert best.samples == (1, 0)
    np.testing.assert_array_equal(best.scores["judge"][:, 0], [1, 3])


def test_samples_of_an_episode_are_averaged_before_the_interval() -> None:
    result = evaluate({"supervised.ar.sampled": scored("s", [1, 3, 2, 4], samples=2)}, DIMENSIONS, SPEC)
    total = result["models"]["supervised.ar.sampled"]["judge"]["total"]
    assert (total["mean"], total["n"]) == (2.5, 2)
    assert (total["low"], total["high"]) == (2.0, 3.0)


def test_differences_are_paired_by_episode() -> None:
    base = [1.0, 5, 2, 8, 3, 7, 4, 6]
    ours, theirs = scored("a", [value + 0.5 for value in base]), scored("b", base)
    paired = difference(ours, theirs, DIMENSIONS, SPEC)
    assert paired is not None
    total = paired["judge"]["total"]
    assert (total["mean"], total["low"], total["high"], total["n"]) == (0.5, 0.5, 0.5, 8)
    assert total["wilcoxon_p"] == pytest.approx(2 / 2**8)
    assert paired["judge"]["brightness"]["holm_p"] == pytest.approx(2 * 2 / 2**8)
    assert paired["judge"]["length"]["wilcoxon_p"] == 1

    reversed_rows = theirs.select(list(reversed(range(8))))
    assert difference(ours, reversed_rows, DIMENSIONS, SPEC) == paired, "the order of the rows does not matter"
    elsewhere = ScoredSet("c", tuple("xyz"), (0, 0, 0), {k: v[:3] for k, v in theirs.scores.items()})
    assert difference(ours, elsewhere, DIMENSIONS, SPEC) is None


def test_the_strongest_baseline_is_no_ceiling_and_not_ours() -> None:
    sets = {
        "ground_truth": scored("", [9.0, 9.5]),
        "reconstruction": scored("", [9.0, 9.0]),
        "copy_last": scored("", [8.5, 8.0]),
        "supervised.true_refresh.greedy": scored("", [8.0, 8.0]),
        "supervised.ar.greedy": scored("", [5.0, 5.0]),
        "supervised.swr.greedy": scored("", [5.5, 5.0]),
        "copy_context": scored("", [3.0, 2.0]),
        "aligned.swr.greedy": scored("", [7.0, 7.0]),
    }
    result = evaluate(sets, DIMENSIONS, SPEC)
    assert result["strongest_baseline"] == "supervised.swr.greedy"
    assert result["differences"]["aligned.swr.greedy"]["supervised.swr.greedy"]["student"]["total"]["mean"] == 1.75
    assert "aligned.ar.greedy against supervised.ar.greedy" in result["comparisons_not_measured"]
    ceilings = {name: values for name, values in result["models"].items() if name == "ground_truth"}
    assert strongest_baseline(ceilings, SPEC.strongest_baseline) is None


def test_each_comparison_is_made_once() -> None:
    names = ["aligned.swr.greedy", "supervised.swr.greedy"]
    pairs = comparisons(names, "supervised.swr.greedy", SPEC)
    assert len(pairs) == len(set(pairs))
    assert ComparisonSpec(model=names[0], against=names[1]) in pairs
    chosen = ComparisonSpec(model="supervised.best_of_2", against="supervised.swr.sampled")
    assert comparisons(names, None, SPEC, [chosen, chosen]) == [*comparisons(names, None, SPEC), chosen]


def test_rows_hold_what_was_scored() -> None:
    (first, *_), count = rows([scored("m", [1.5, 2.0])], DIMENSIONS), len(rows([scored("m", [1.5, 2.0])], DIMENSIONS))
    assert count == 4
    assert first == {
        "model": "m", "scorer": "student", "episode": "toy/0", "sample": 0,
        "brightness": 1.5, "length": 0.0, "total": 1.5,
    }  # fmt: skip


def test_specs_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValidationError, match="is not in scorers"):
        EvaluationSpec.model_validate({"scorers": ["student"]})
    with pytest.raises(ValidationError, match="twice"):
        EvaluationSpec.model_validate({"scorers": ["student", "student"], "strongest_baseline": {"scorer": "student"}})
    with pytest.raises(ValidationError, match="must be below"):
        EvaluationSpec.model_validate({"gates": {"motion_ratio_low": 2.0}})
