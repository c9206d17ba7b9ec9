"""Gold beside the learned scorers: where it knows nothing, how they agree with it, and the gates that read it."""

from collections.abc import Sequence

import numpy as np
import pytest
from torch import Tensor

from roboalign.evaluation.clips import Clip
from roboalign.evaluation.gates import gates
from roboalign.evaluation.scoring import GOLD, ScoredSet, Scores, agreement, evaluate, rows, score
from roboalign.evaluation.spec import EvaluationSpec

SPEC = EvaluationSpec(draws=200)


def clip(episode: str, level: int) -> Clip:
    return Clip(episode, 0, "push it", np.full((3, 4, 4, 3), level, np.uint8))


def brightness(videos: Tensor, instructions: Sequence[str]) -> Tensor:
    return videos.mean((1, 2, 3, 4))[:, None].repeat(1, 2)


def squared(clips: Sequence[Clip]) -> Scores:
    """The square of the brightness; of a robot nothing is known."""
    values = [float("nan") if c.episode.startswith("real") else float(c.frames.mean()) ** 2 for c in clips]
    return np.repeat(np.array(values)[:, None], 2, axis=1)


def test_gold_scores_what_it_knows() -> None:
    clips = [clip("sim/0", 10), clip("real/0", 20), clip("sim/1", 30)]
    result = score("toy", clips, {"student": brightness}, batch=2, gold=squared)
    assert np.isnan(result.scores[GOLD][1]).all()
    assert set(result.by_episode(GOLD)) == {"sim/0", "sim/1"}
    assert set(result.by_episode("student")) == {"sim/0", "real/0", "sim/1"}
    listed = rows([result], ("a", "b"))
    assert [row["episode"] for row in listed if row["scorer"] == GOLD] == ["sim/0", "sim/1"]


def test_gold_is_absent_where_it_knows_nothing() -> None:
    result = score("toy", [clip("real/0", 20)], {"student": brightness}, batch=2, gold=squared)
    assert set(result.scores) == {"student"}
    assert agreement([result], SPEC) == {}
    assert "agreement" not in evaluate({"supervised.ar.greedy": result}, ("a", "b"), SPEC)


def agreeing(sign: float, name: str = "supervised.ar.greedy") -> ScoredSet:
    """Twelve clips of four episodes that the student ranks as gold does, or the other way round."""
    gold = np.arange(12.0)[:, None]
    episodes = tuple(f"sim/{n // 3}" for n in range(12))
    return ScoredSet(name, episodes, tuple(n % 3 for n in range(12)), {"student": sign * gold**3, GOLD: gold})


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_agreement_is_a_rank_correlation_over_clips(sign: float) -> None:
    found = agreement([agreeing(sign), agreeing(sign)], SPEC)["student"][GOLD]
    assert found["spearman"] == pytest.approx(sign)
    assert found["low"] == pytest.approx(sign)
    assert found["clips"] == 24
    assert found["n"] == 4
    assert found["pair_accuracy"] == (1.0 if sign > 0 else 0.0)


def test_agreement_is_measured_over_generated_clips() -> None:
    sets = {one.name: one for one in (agreeing(1.0), agreeing(-1.0, "copy_last"))}
    assert evaluate(sets, ("a",), SPEC)["agreement"]["student"][GOLD]["spearman"] == pytest.approx(1.0)


@pytest.mark.parametrize(("spearman", "passed"), [(0.61, True), (0.6, False), (-0.9, False)])
def test_the_gate_reads_the_students_agreement_with_gold(spearman: float, passed: bool) -> None:
    entry = {"spearman": spearman, "low": spearman - 0.1, "high": spearman + 0.1, "clips": 96, "n": 16}
    measured, missing = gates({"evaluation": {"agreement": {"student": {GOLD: entry}}}}, {}, SPEC)
    assert measured["student_gold_agreement"]["passed"] is passed
    assert measured["student_gold_agreement"]["figures"]["clips"] == 96
    assert "student_gold_agreement" not in missing


@pytest.mark.parametrize("low", [-0.1, 0.1])
def test_alignment_is_judged_by_gold(low: float) -> None:
    total = {"total": {"mean": low + 0.2, "low": low, "high": low + 0.4, "n": 24}}
    measured, missing = gates({}, {"aligned.swr.greedy": {"supervised.swr.greedy": {GOLD: total}}}, SPEC)
    assert measured["aligned_above_supervised_gold"]["passed"] is (low > 0)
    assert missing["aligned_above_supervised_held_out"] == "needs a held-out judge"
