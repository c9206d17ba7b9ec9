from pathlib import Path

import pytest

from roboalign.spec.check import check
from roboalign.spec.diagnostics import SpecError
from roboalign.spec.document import COMMAND_LINE
from roboalign.spec.library import STUDIES, Library
from roboalign.spec.studies import read_study


def test_a_study_is_checked_run_by_run(tree: Path) -> None:
    path = tree / "specs/studies/mine.yaml"
    text = "question: q\nexperiment: tiny\nreference: a\nruns:\n  a: {use: {rl: tiny}}\n  b: {set: {rl.horizn: 3}}\n"
    path.write_text(text)
    found = [each for each in check(Library(tree)) if "horizn" in each.message]
    assert [each.mark.source.name for each in found] == ["specs/studies/mine.yaml"]
    assert found[0].mark.line == 5
    with pytest.raises(SpecError):
        read_study(Library(tree), "mine", COMMAND_LINE)
    path.write_text(text.replace("rl.horizn", "rl.kl_coef").replace("reference: a", "reference: c"))
    assert any("no run is named c" in each.message for each in check(Library(tree)))


@pytest.mark.parametrize("name", Library(Path()).names(STUDIES))
def test_shipped_studies_are_valid(name: str) -> None:
    read_study(Library(Path()), name, COMMAND_LINE)
