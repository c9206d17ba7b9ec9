"""The section on the state probes: the three side by side, and their outcome models."""

from dataclasses import replace

import pytest

from roboalign.report.blocks import Prose, Table
from roboalign.report.inputs import Inputs
from roboalign.report.names import DASH
from roboalign.report.state_probes import state_probes

pytestmark = pytest.mark.usefixtures("undrawn")


def tables(inputs: Inputs) -> list[Table]:
    return [block for block in state_probes(inputs).blocks if isinstance(block, Table)]


def test_the_three_probes_stand_side_by_side_for_each_kind_of_frame(full_inputs: Inputs) -> None:
    table = tables(full_inputs)[0]
    assert table.head[1:] == [
        *(
            f"{name}\n{medium}"
            for medium in ("true frames", "reconstructed", "generated")
            for name in ("Judge's", "Gold's", "Held-out")
        ),
        "Always the\nmean state",
        "Always the\nfirst state",
    ]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert list(rows) == ["Gripper (cm)", "Object (cm)", "Goal (cm)", "Success AUC"], "nested figures have other tables"
    assert rows["Object (cm)"][:3] == ["1.00", "1.10", "0.90"]
    assert rows["Object (cm)"][-2:] == ["7.00", "6.00"]


def test_outcome_models_stand_beside_a_prediction_that_nothing_moves(full_inputs: Inputs) -> None:
    table = next(table for table in tables(full_inputs) if table.caption.startswith("Outcome models"))
    assert table.head[1:3] == ["Judge's\noutcome model", "Judge's\nnothing moves"]
    assert len(table.head) == 5, "gold's probe has no outcome model"
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["Object (cm)"] == ["2.00", "4.00", "2.20", "4.00"]
    assert rows["Success AUC"] == ["0.830", DASH, "0.830", DASH]


def test_disagreement_pixels_and_sources_have_tables(full_inputs: Inputs) -> None:
    captions = [table.caption for table in tables(full_inputs)]
    assert len(captions) == 5
    assert captions[1] == "Disagreement of a probe's ensemble members"
    assert captions[-1] == "Errors of positions on true frames by source"


def test_one_absent_probe_leaves_the_others(full_inputs: Inputs) -> None:
    metrics = {name: value for name, value in full_inputs.metrics.items() if name != "probe/gold"}
    assert not any(heading.startswith("Gold's") for heading in tables(replace(full_inputs, metrics=metrics))[0].head)


def test_without_states_the_report_says_so(full_inputs: Inputs) -> None:
    found = state_probes(replace(full_inputs, metrics={"probe/judge": {"n": 0, "sources": []}}))
    assert [type(block) for block in found.blocks] == [Prose]
    assert state_probes(replace(full_inputs, metrics={})).blocks == []
