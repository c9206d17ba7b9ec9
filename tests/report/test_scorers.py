"""The section on scores: faithful totals first, who sees a gain, and outcomes with their intervals."""

from dataclasses import replace
from typing import Any

import pytest

from roboalign.report.blocks import Table
from roboalign.report.inputs import Inputs
from roboalign.report.names import scorer
from roboalign.report.scorers import scorer_words, scorers_text, scores, verdict

pytestmark = pytest.mark.usefixtures("undrawn")


def table(inputs: Inputs, start: str) -> Table:
    return next(each for each in scores(inputs).blocks if isinstance(each, Table) and each.caption.startswith(start))


def gain(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.2, "high": mean + 0.2, "n": 24}


@pytest.mark.parametrize(
    ("means", "text"),
    [
        ((0.5, 0.4, 0.3, 0.3), "Gain, confirmed by held-out judge and gold"),
        ((0.5, 0.4, 0.1, 0.0), "Gain only by student and judge: reward hacking"),
        ((0.5, 0.4, 0.3, 0.0), "Gain, confirmed only by held-out judge"),
        ((0.5, 0.4, 0.3, -0.3), "Loss by gold: reward hacking"),
        ((0.1, 0.1, 0.1, 0.1), "No gain"),
        ((0.5, 0.5, None, None), "Not confirmed: no independent scorer"),
    ],
)
def test_a_gain_is_read_by_who_sees_it(means: tuple[float | None, ...], text: str) -> None:
    names = ("student", "judge", "held_out", "gold")
    values = {name: None if mean is None else gain(mean) for name, mean in zip(names, means, strict=True)}
    assert verdict(values).text == text


def test_gold_confirms_nothing_if_it_was_maximised() -> None:
    values = {"student": gain(0), "judge": gain(0), "held_out": gain(0), "gold": gain(0.5)}
    assert verdict(values, "gold").text == "Gain only by gold: reward hacking"


def test_faithful_totals_stand_before_absolute_ones(full_inputs: Inputs) -> None:
    names = ("Student", "Judge", "Held-out judge", "Gold")
    found = table(full_inputs, "Total score")
    assert found.head[1:] == [f"{name}\n{kind}" for kind in ("faithful", "absolute") for name in names]
    listed = [each for each in scores(full_inputs).blocks if isinstance(each, Table)]
    assert [each.caption for each in listed if not each.folded] == [
        "Faithful total, aligned model minus a baseline: which scorers confirm a gain"
    ]
    kinds = [each.caption for each in listed if "Differences of" in each.caption]
    assert [caption.split()[2] for caption in kinds] == ["faithful", "absolute"]


def test_outcomes_stand_with_interval_and_number_of_episodes(full_inputs: Inputs) -> None:
    found = table(full_inputs, "Outcomes: clips")
    assert [name.split("\n")[0] for name in found.head[1:]] == [
        "False success", "Missed success", "Position error (cm)", "PSNR (dB)",
    ]  # fmt: skip
    assert found.rows[0][1].note == "0.070 to 0.450 · n = 15"
    paired = table(full_inputs, "Outcomes, paired")
    assert [cell.tone for cell in paired.rows[0][1:]] == ["bad", "", "good", "good"], "fewer errors are better"


def test_the_text_says_what_each_scorer_did(full_inputs: Inputs) -> None:
    names = list(full_inputs.metrics["evaluation"]["models"]["copy_last"])
    student, judge, held_out, gold = scorers_text(full_inputs, names)
    assert "Alignment maximises its score" in student
    assert "before and during alignment" in judge
    assert "decides which checkpoint" in held_out
    assert "No trained model and no choice depends on it" in gold
    without = scorers_text(replace(full_inputs, spec={}), ["student", "judge"])
    assert without[-1] == "Not used in this run: held-out judge and gold."


@pytest.mark.parametrize("absent", ["outcomes", "differences", "agreement", "strongest_baseline"])
def test_the_section_stands_without_a_part(full_inputs: Inputs, absent: str) -> None:
    evaluation: dict[str, Any] = {k: v for k, v in full_inputs.metrics["evaluation"].items() if k != absent}
    assert scores(replace(full_inputs, metrics={"evaluation": evaluation})).blocks


def test_absolute_scores_alone_have_their_tables(full_inputs: Inputs) -> None:
    models = {name: {"judge": value["judge"]} for name, value in full_inputs.metrics["evaluation"]["models"].items()}
    blocks = scores(replace(full_inputs, metrics={"evaluation": {"models": models}})).blocks
    captions = [each.caption for each in blocks if isinstance(each, Table)]
    assert [caption.partition(":")[0].partition(" (")[0] for caption in captions] == ["Total score", "Judge, absolute"]


def test_scorers_have_names() -> None:
    assert scorer("held_out_faithful") == "Held-out judge, faithful"
    assert scorer_words("judge_faithful") == "faithful total by the judge"
    assert scorer_words("gold") == "total by gold"
