"""Outcomes of clips: errors, false and missed success, their differences, and their table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.testing import assert_array_equal

from roboalign.evaluation.outcomes import (
    Outcomes,
    outcome_difference,
    outcome_gains,
    outcome_rows,
    outcome_summary,
    read_outcomes,
)
from roboalign.evaluation.scoring import ScoredSet, evaluate
from roboalign.evaluation.spec import EvaluationSpec
from roboalign.io import write_tsv

SPEC = EvaluationSpec(draws=200)


def outcomes(*rows_: tuple[float, float, float, float], episodes: Sequence[str] = ()) -> Outcomes:
    """Clips with shown success, true success, position error and PSNR; one an episode unless told."""
    names = tuple(episodes) or tuple(f"sim/{row}" for row in range(len(rows_)))
    return Outcomes(names, tuple(range(len(rows_))), np.array(rows_))


def test_false_and_missed_success_are_rates_of_failures_and_of_successes() -> None:
    nan = float("nan")
    clips = outcomes((0.9, 0.1, 2, 20), (0.2, 0.3, 4, 22), (0.4, 0.8, 6, 24), (0.6, 0.9, 8, 26), (nan, nan, nan, 28))
    found = outcome_summary(clips, SPEC)
    assert (found["false_success"]["mean"], found["false_success"]["n"]) == (0.5, 2)
    assert (found["missed_success"]["mean"], found["missed_success"]["n"]) == (0.5, 2)
    assert (found["position_error_cm"]["mean"], found["position_error_cm"]["n"]) == (5, 4)
    assert (found["psnr"]["mean"], found["psnr"]["n"]) == (24, 5)


def test_rates_average_the_clips_of_an_episode_first() -> None:
    clips = outcomes(*[(1, 0, 0, 0)] * 3, (0, 0, 0, 0), (0, 0, 0, 0), episodes=("a", "a", "a", "a", "b"))
    found = outcome_summary(clips, SPEC)["false_success"]
    assert (found["mean"], found["n"]) == (0.375, 2)


def test_a_rate_without_cases_is_absent() -> None:
    assert "missed_success" not in outcome_summary(outcomes((1, 0, 1, 20)), SPEC)


def test_outcomes_are_compared_on_shared_episodes() -> None:
    ours = outcomes((1, 0, 3, 20), (1, 0, 3, 20), (0, 1, 3, 20))
    theirs = outcomes((0, 0, 2, 21), (1, 0, 2, 21), (1, 1, 2, 21))
    found = outcome_difference(ours, theirs, SPEC)
    assert {name: value["mean"] for name, value in found.items()} == {
        "position_error_cm": 1, "psnr": -1, "false_success": 0.5,
    }  # fmt: skip
    assert found["false_success"]["n"] == 2
    assert outcome_gains(ours, theirs)["false_success"] == {"sim/0": 1, "sim/1": 0}


def test_the_evaluation_summarises_outcomes() -> None:
    ours = outcomes((1, 0, 3, 20), (1, 0, 3, 20), (0, 1, 3, 20))
    scored = ScoredSet("m", ours.episodes, ours.samples, {"student": np.zeros((3, 1))}, ours)
    assert evaluate({"m": scored}, ("a",), SPEC)["outcomes"]["m"]["false_success"]["mean"] == 1


def test_the_table_of_outcomes_reads_back(tmp_path: Path) -> None:
    nan = float("nan")
    known, without_states = outcomes((0.9, 0.1, 2, 20), (0.2, 0.3, 4.25, 22)), outcomes((nan, nan, nan, 28))
    write_tsv(tmp_path / "outcomes.tsv", outcome_rows({"a": known, "b": without_states}))
    found = read_outcomes((tmp_path / "outcomes.tsv").read_text())
    assert list(found) == ["a", "b"]
    for name, one in (("a", known), ("b", without_states)):
        assert (found[name].episodes, found[name].samples) == (one.episodes, one.samples)
        assert_array_equal(found[name].values, one.values)
