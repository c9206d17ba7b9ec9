"""Estimates against the models they are about, and against what was measured."""

from pathlib import Path

import pytest
import torch

from roboalign.judge.model import RegressionJudge
from roboalign.judge.spec import RegressionJudgeSpec
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.probe.spec import OutcomeSpec
from roboalign.reward.model import RewardModel
from roboalign.reward.text import Vocabulary
from roboalign.spec.compose import compose
from roboalign.spec.document import COMMAND_LINE
from roboalign.spec.estimates import Estimate, duration, estimates, si
from roboalign.spec.experiment import Experiment
from roboalign.spec.library import Library
from roboalign.student.model import Student

ROOT = Path(__file__).parent.parent.parent


def experiment(name: str) -> Experiment:
    return compose(Library(ROOT), name, COMMAND_LINE).require()


def rows(name: str) -> dict[str, Estimate]:
    return {row.part: row for row in estimates(experiment(name))}


def test_the_default_fits_its_time_and_memory() -> None:
    tiny = rows("tiny")
    assert sum(row.seconds or 0 for row in tiny.values()) < 60 * 60
    assert all(row.memory_gb is not None and row.memory_gb < 6 for row in tiny.values())
    # Trials: 0.31 s a step of 16 sequences on two threads.
    assert tiny["world_model"].seconds == pytest.approx(0.31 * experiment("tiny").world_model.training.steps, rel=0.5)


def test_the_paper_scale_is_the_papers() -> None:
    paper = rows("paper")
    assert paper["student"].parameters == pytest.approx(98e6, rel=0.03)
    assert paper["world_model"].parameters == pytest.approx(127e6, rel=0.05)
    assert paper["rollout"].tokens == 1280 + 30 * 93


def test_alignment_from_published_weights_takes_hours_not_days() -> None:
    align = rows("align_rt1")
    # RLVR-World's own: 129,448,016 parameters; 127,101,696 with the heads and ids that are never predicted.
    assert align["tokenizer"].parameters == 129_448_016
    assert align["world_model"].tokens == 1280 + 80 + 30 * 93  # nothing is trained: the measured rollouts
    assert align["tokenizer"].seconds == align["world_model"].seconds == 0
    assert all("nothing is trained" in align[part].work for part in ("tokenizer", "world_model"))
    assert 0 < sum(row.seconds or 0 for row in align.values()) < 24 * 3600
    assert all((row.memory_gb or 0) < 80 for row in align.values())


TASKS = [("toy", str(number)) for number in range(10)]
"""As many as the tiny experiment has."""


def scorers(whole: Experiment) -> dict[str, RewardModel]:
    """The judges and the student of an experiment, without the memory of their weights."""
    vocabulary, size = Vocabulary.of(["push it"], 16), (whole.tokenizer.height, whole.tokenizer.width)
    found: dict[str, RewardModel] = {}
    with torch.device("meta"):
        outcome = OutcomeModel(OutcomeSpec(), len(TASKS), 4)
        for part, spec, teacher in (
            ("judge", whole.judge, whole.probe.judge),
            ("held_out", whole.held_out, whole.probe.held_out),
        ):
            if isinstance(spec, RegressionJudgeSpec):
                eyes = Probe(teacher.network, TASKS, size)
                found[part] = RegressionJudge(spec, whole.reward, vocabulary, 4, eyes, outcome)
        eyes = Probe(whole.probe.judge.network, TASKS, size)
        found["student"] = Student(whole.student, whole.reward, vocabulary, 4, eyes, outcome)
    return found


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_scorers_have_the_parameters_that_are_estimated(name: str) -> None:
    for part, model in scorers(experiment(name)).items():
        count = sum(parameter.numel() for parameter in model.members.parameters())
        assert rows(name)[part].parameters == pytest.approx(count, rel=0.15), part


@pytest.mark.parametrize("name", ["judge", "gold", "held_out"])
def test_probes_have_the_parameters_that_are_estimated(name: str) -> None:
    whole = experiment("tiny")
    probe = Probe(getattr(whole.probe, name).network, TASKS, (64, 64))
    count = sum(parameter.numel() for parameter in probe.parameters())
    assert rows("tiny")[f"probe.{name}"].parameters == pytest.approx(count, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (90, "90 s"), (101.4, "101 s"), (600, "10 min"), (7200, "2 h"), (864000, "10 d")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(12, "12"), (1380, "1.38 k"), (98_000_000, "98 M"), (8 * 10**9, "8 G")])
def test_numbers_are_short(number: int, text: str) -> None:
    assert si(number) == text
