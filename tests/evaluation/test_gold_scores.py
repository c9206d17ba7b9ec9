"""Gold beside the learned scorers: where it knows nothing, and how they agree with it."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from roboalign.evaluation.clips import Clip
from roboalign.evaluation.scoring import (
    GoldScores,
    ScoredSet,
    agreement,
    evaluate,
    rows,
    score,
)
from roboalign.evaluation.spec import GOLD, EvaluationSpec

SPEC = EvaluationSpec(draws=200)


def clip(episode: str, level: int) -> Clip:
    return Clip(episode, 0, "push it", np.full((3, 4, 4, 3), level, np.uint8), np.zeros((2, 4), np.float32))


def brightness(videos: Tensor, instructions: Sequence[str], actions: Tensor) -> Tensor:
    """Absolute scores are the brightness, faithful ones its negative."""
    level = videos.mean((1, 2, 3, 4))[:, None].repeat(1, 2)
    return torch.stack([level, -level], 1)


def squared(clips: Sequence[Clip]) -> GoldScores:
    """The square of the brightness; of a robot nothing is known."""
    values = [float("nan") if c.episode.startswith("real") else float(c.frames.mean()) ** 2 for c in clips]
    scores = np.repeat(np.array(values)[:, None], 2, axis=1)
    return GoldScores(np.stack([scores, -scores], 1), np.repeat(np.array(values)[:, None], 4, axis=1))


def test_gold_scores_what_it_knows() -> None:
    clips = [clip("sim/0", 10), clip("real/0", 20), clip("sim/1", 30)]
    result = score("toy", clips, {"student": brightness}, batch=2, gold=squared)
    assert np.isnan(result.scores[GOLD][1]).all()
    assert set(result.by_episode(GOLD)) == {"sim/0", "sim/1"}
    assert set(result.by_episode("student")) == {"sim/0", "real/0", "sim/1"}
    listed = rows([result], ("a", "b"))
    assert [row["episode"] for row in listed if row["scorer"] == GOLD] == ["sim/0", "sim/1"]
    for scorer in ("student", GOLD):
        np.testing.assert_array_equal(result.scores[f"{scorer}_faithful"], -result.scores[scorer])
    assert result.outcomes is not None
    assert result.outcomes.by_episode()["psnr"] == {"sim/0": 100.0, "sim/1": 900.0}


def test_gold_is_absent_where_it_knows_nothing() -> None:
    parts = [score("toy", [clip(f"real/{n}", 20)], {"student": brightness}, batch=2, gold=squared) for n in range(2)]
    result = ScoredSet.concatenate(parts)
    assert set(result.scores) == {"student", "student_faithful"}
    assert result.episodes == ("real/0", "real/1")
    assert result.outcomes is not None
    assert result.outcomes.values.shape == (2, 4)
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


def test_faithful_scores_are_held_against_golds_faithful_ones() -> None:
    one = agreeing(1.0)
    scores = dict(one.scores) | {"student_faithful": one.scores[GOLD], f"{GOLD}_faithful": -one.scores[GOLD]}
    found = agreement([ScoredSet(one.name, one.episodes, one.samples, scores)], SPEC)
    assert found["student"].keys() == {GOLD}
    assert found["student_faithful"].keys() == {f"{GOLD}_faithful"}
    assert found["student_faithful"][f"{GOLD}_faithful"]["spearman"] == pytest.approx(-1.0)
