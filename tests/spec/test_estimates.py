"""Estimates against the models they are about, and against what was measured."""

from pathlib import Path

import pytest
import torch

from roboalign.judge.spec import RegressionJudgeSpec
from roboalign.reward.encoder import VisualTextEncoder
from roboalign.spec.compose import compose
from roboalign.spec.document import COMMAND_LINE
from roboalign.spec.estimates import Estimate, duration, estimates, si
from roboalign.spec.experiment import Experiment
from roboalign.spec.library import Library

ROOT = Path(__file__).parent.parent.parent


def experiment(name: str) -> Experiment:
    return compose(Library(ROOT), name, COMMAND_LINE).require()


def rows(name: str) -> dict[str, Estimate]:
    return {row.part: row for row in estimates(experiment(name))}


def test_the_default_fits_its_time_and_memory() -> None:
    tiny = rows("tiny")
    assert sum(row.seconds or 0 for row in tiny.values()) < 25 * 60
    assert all(row.memory_gb is not None and row.memory_gb < 6 for row in tiny.values())
    # Trials: 0.31 s a step of 16 sequences on two threads.
    assert tiny["world_model"].seconds == pytest.approx(0.31 * experiment("tiny").world_model.training.steps, rel=0.5)


def test_the_paper_scale_is_the_papers() -> None:
    paper = rows("paper")
    assert paper["student"].parameters == pytest.approx(98e6, rel=0.03)
    assert paper["world_model"].parameters == pytest.approx(127e6, rel=0.05)
    assert paper["rollout"].tokens == 1280 + 30 * 93


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_scorers_have_the_parameters_that_are_estimated(name: str) -> None:
    whole = experiment(name)
    scorers = {"student": whole.student.encoder}
    if isinstance(whole.judge, RegressionJudgeSpec):
        scorers["judge"] = whole.judge.encoder
    for part, encoder in scorers.items():
        with torch.device("meta"):
            model = VisualTextEncoder(encoder, vocabulary=60)
        count = sum(parameter.numel() for parameter in model.parameters())
        assert rows(name)[part].parameters == pytest.approx(count, rel=0.15), part


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (90, "90 s"), (101.4, "101 s"), (600, "10 min"), (7200, "2 h"), (864000, "10 d")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(12, "12"), (1380, "1.38 k"), (98_000_000, "98 M"), (8 * 10**9, "8 G")])
def test_numbers_are_short(number: int, text: str) -> None:
    assert si(number) == text
