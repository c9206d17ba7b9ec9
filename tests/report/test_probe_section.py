"""What the report says of the state probe."""

from dataclasses import replace

from roboalign.report.blocks import Prose, Table
from roboalign.report.inputs import Inputs
from roboalign.report.probe import probe


def captions(inputs: Inputs) -> list[str]:
    return [block.caption for block in probe(inputs).blocks if isinstance(block, Table)]


def test_errors_stand_by_medium_beside_the_trivial_answers(full_inputs: Inputs) -> None:
    table = next(block for block in probe(full_inputs).blocks if isinstance(block, Table))
    assert [head.lower() for head in table.head[1:]] == [
        "true frames",
        "reconstructed",
        "generated, from the true outcome",
        "always the mean state",
        "always the first state",
    ]
    assert [cell.text for cell in table.rows[0][1:]] == ["1", "1.6", "4", "7", "6"]
    assert len(table.rows) == 1, "pixels and disagreement have tables of their own"


def test_disagreement_pixels_and_sources_have_tables(full_inputs: Inputs) -> None:
    assert len(captions(full_inputs)) == 4


def test_without_states_the_report_says_so(full_inputs: Inputs) -> None:
    found = probe(replace(full_inputs, metrics={"probe": {"n": 0, "sources": []}}))
    assert [type(block) for block in found.blocks] == [Prose]
    assert probe(replace(full_inputs, metrics={})).blocks == []
