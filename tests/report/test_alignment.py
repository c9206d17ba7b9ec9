"""The section on alignment: the optimiser, before and after by every scorer, the guard's checks."""

from dataclasses import replace

import pytest

from roboalign.report.alignment import alignment, best_check, description
from roboalign.report.blocks import Chart, Table
from roboalign.report.inputs import Inputs
from roboalign.rl.guard import Check, decide
from roboalign.rl.spec import GuardSpec

pytestmark = pytest.mark.usefixtures("undrawn")


def table(inputs: Inputs, start: str) -> Table:
    return next(each for each in alignment(inputs).blocks if isinstance(each, Table) and each.caption.startswith(start))


def test_optimiser_and_signal_to_noise_are_named(full_inputs: Inputs) -> None:
    optimiser, noise = description(full_inputs)
    assert optimiser.startswith("Optimiser: First order (")
    assert "Reward: distilled, faithful scores." in optimiser
    assert "cosine of 0.210 on average (0.120 to 0.300, 6 pairs of 4 batches)" in noise
    assert description(replace(full_inputs, spec={}, metrics={})) == []


@pytest.mark.parametrize(("kind", "name"), [("grpo", "GRPO ("), ("best_of_n", "Best of N (")])
def test_every_optimiser_has_a_name(full_inputs: Inputs, kind: str, name: str) -> None:
    spec = {"rl": {"optimizer": {"kind": kind}}}
    assert f"Optimiser: {name}" in description(replace(full_inputs, spec=spec))[0]


def test_before_and_after_by_every_scorer(full_inputs: Inputs) -> None:
    found = table(full_inputs, "Total score before and after")
    assert [row[0].text for row in found.rows] == [
        "Maximised reward", "Student", "Student, distilled online", "Judge", "Held-out judge", "Gold",
    ]  # fmt: skip
    proxy, student, *_ = found.rows
    assert [cell.text for cell in proxy[1:4]] == ["0.600", "0.680", "+0.080"]
    assert [cell.tone for cell in student[1:]] == ["", "", "good"] * 2
    assert [cell.text for cell in found.rows[-1][1:4]] == ["6.100", "6.150", "+0.050"]


def test_success_before_and_after(full_inputs: Inputs) -> None:
    found = table(full_inputs, "False and missed success")
    assert [[cell.text for cell in row] for row in found.rows] == [
        ["False success", "0.200", "0.300"],
        ["Missed success", "0.300", "0.300"],
    ]
    assert found.rows[0][0].note == "of 40 prompts; the true outcome fails"


def test_the_best_check_is_the_guards_choice(full_inputs: Inputs) -> None:
    rows = full_inputs.curves["rl_checks"]
    checks = [Check(**{name: float(value) for name, value in row.items()}) for row in rows]  # type: ignore[arg-type]
    for loss in (0.05, 0.3, 2.0):
        assert best_check(rows, loss) == decide(checks, GuardSpec(max_psnr_loss=loss)).best
    found = table(full_inputs, "Checks by policy update")
    assert [row[0].note for row in found.rows] == ["", "", "kept", "", ""]


def test_checks_without_gold_or_rule(full_inputs: Inputs) -> None:
    rows = [{name: value for name, value in row.items() if name != "gold"} for row in full_inputs.curves["rl_checks"]]
    inputs = replace(full_inputs, spec={}, metrics={}, curves={"rl_checks": rows})
    found = table(inputs, "Checks by policy update")
    assert not any(heading.startswith("Gold") for heading in found.head)
    assert not any(row[0].note for row in found.rows)
    assert sum(isinstance(block, Chart) for block in alignment(inputs).blocks) == 1


def test_nothing_measured_gives_no_section(full_inputs: Inputs) -> None:
    assert alignment(replace(full_inputs, metrics={}, curves={})).blocks == []
