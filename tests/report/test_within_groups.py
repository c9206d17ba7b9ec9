"""The section on rewards within groups: correlation with gold place_side_by_side the ceiling, and best-of-N."""

from dataclasses import replace
from typing import Any

import pytest

from roboalign.report.blocks import Chart, Prose, Table
from roboalign.report.inputs import Inputs
from roboalign.report.within_groups import within_groups

pytestmark = pytest.mark.usefixtures("undrawn")


def tables(inputs: Inputs) -> list[Table]:
    return [block for block in within_groups(inputs).blocks if isinstance(block, Table)]


def test_every_reward_model_stands_beside_its_ceiling(full_inputs: Inputs) -> None:
    table = tables(full_inputs)[0]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert list(rows) == [
        f"{name}, {frames} frames" for name in ("Student", "Judge", "Held-out judge") for frames in ("8", "30")
    ]
    assert table.head[2:6] == [
        "With gold\nfaithful", "Ceiling\nfaithful", "Pair accuracy\nfaithful", "With training\nscores, faithful",
    ]  # fmt: skip
    assert rows["Student, 8 frames"][:5] == ["48", "0.41", "0.65", "0.637", "0.80"], "the judge's ceiling"
    assert rows["Held-out judge, 8 frames"][1:3] == ["0.40", "0.60"], "a ceiling of its own"
    assert rows["Judge, 30 frames"][5:7] == ["0.27", "0.47"], "absolute scores follow the faithful ones"


def test_best_of_n_is_coloured_if_the_gain_is_certain(full_inputs: Inputs) -> None:
    table = tables(full_inputs)[1]
    assert table.head[1:5] == [f"N = {n}\nfaithful" for n in (2, 4, 8, 16)]
    rows = {row[0].text: row for row in table.rows}
    assert [cell.tone for cell in rows["Student, 30 frames"][1:5]] == ["", "good", "good", "good"]
    ceilings = [row for name, row in rows.items() if name.startswith("Labels by")]
    assert len(ceilings) == 4
    assert {cell.tone for row in ceilings for cell in row} == {"muted"}


def test_dimensions_and_a_chart(full_inputs: Inputs) -> None:
    table = tables(full_inputs)[2]
    assert len(table.rows) == 6
    assert len(table.head) == 11
    assert {cell.text for cell in table.rows[-1][1:]} == {"\N{EN DASH}"}, "constant within every group"
    assert sum(isinstance(block, Chart) for block in within_groups(full_inputs).blocks) == 1


def test_the_text_names_the_students_figures(full_inputs: Inputs) -> None:
    prose = next(block for block in within_groups(full_inputs).blocks if isinstance(block, Prose))
    assert (
        "30 frames, the student's faithful total has a correlation with gold of 0.33; the ceiling is 0.57"
        in (prose.paragraphs[-1])
    )


def test_without_ceiling_or_groups(full_inputs: Inputs) -> None:
    metrics: dict[str, Any] = {"student": full_inputs.metrics["student"]}
    assert len(tables(replace(full_inputs, metrics=metrics))) == 3
    metrics["student"] = metrics["student"] | {"within_groups": {"gold": {"faithful": {"8": {"groups": 2, "size": 4}}}}}
    assert len(tables(replace(full_inputs, metrics=metrics))) == 1
    assert within_groups(replace(full_inputs, metrics={"student": {"n": 3}})).blocks == []
