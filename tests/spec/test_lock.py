"""File hashes as DVC computes them, dvc.yaml's stages, and differences of sections."""

from pathlib import Path
from typing import Any

import pytest

from roboalign.spec.differences import differences
from roboalign.spec.graph import StageEntry, fill_in, make_stage, stages
from roboalign.spec.lock import Hashes, folder_hash


def test_hashes_are_those_of_dvc(tmp_path: Path) -> None:
    (tmp_path / "art/a").mkdir(parents=True)
    (tmp_path / "art/b").mkdir()
    (tmp_path / "art/a/x").write_text("a\n")
    (tmp_path / "art/b/x").write_text("b\n")
    hashes = Hashes(tmp_path)
    # What `dvc add` records for the same files.
    assert hashes.of("art/a") == "aab41784c76ad7606d1268dea09ec286.dir"
    assert hashes.of("art/b") == "933e6ce221dbc3f72912fceefa4e4deb.dir"
    assert hashes.of("art/a/x") == "60b725f10c9c85c70d97880dfe8191b3"
    assert hashes.of("art/none") is None


def test_ignored_files_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "p/__pycache__").mkdir(parents=True)
    (tmp_path / "p/x").write_text("a\n")
    (tmp_path / "p/__pycache__/x.pyc").write_text("b")
    (tmp_path / "p/y.pyc").write_text("b")
    (tmp_path / ".dvcignore").write_text("# comment\n__pycache__/\n*.pyc\n")
    assert Hashes(tmp_path).of("p") == "aab41784c76ad7606d1268dea09ec286.dir"


def test_an_empty_folder_has_a_hash() -> None:
    assert folder_hash({}) == "d751713988987e9331980363e24189ce.dir"


def test_matrices_are_unfolded(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  ep:\n    matrix:\n      source: ${sources}\n    cmd: run ${item.source}\n"
        "    params:\n      - build/spec/s.yaml:\n          - s.${item.source}\n      - use\n"
        "    outs:\n      - art/${item.source}\n    metrics:\n      - m.json:\n          cache: false\n"
    )
    found = stages(tmp_path, {"sources": ["a", "b"]})
    assert [stage.name for stage in found] == ["ep@a", "ep@b"]
    assert found[1].cmd == "run b"
    assert found[1].params == (("build/spec/s.yaml", "s.b"), ("params.yaml", "use"))
    assert found[1].outs == ("art/b", "m.json")


FORMS = """
stages:
  several:
    cmd: [make a, make b]
    params:
      - other.yaml:
      - use
    plots:
      - curve.tsv: {x: step, cache: false}
      - more.tsv: [{x: step}]
    outs:
      - a: {push: false}
      - b
  listed:
    foreach: [x, y]
    do: {cmd: "run ${item}", outs: ["l/${item}"]}
  mapped:
    foreach: {fast: {n: 1}, slow: {n: 2}}
    do: {cmd: "run ${key} ${item.n}"}
  records:
    foreach: [{n: 1}, {n: 2}]
    do: {cmd: "run ${item.n}"}
  crossed:
    matrix: {source: [a, b], big: [true, {n: 3}]}
    cmd: run ${item.source}
"""


def test_the_forms_that_dvc_allows_are_read(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(FORMS)
    found = {stage.name: stage for stage in stages(tmp_path, {})}
    # The names are those that `dvc stage list` prints.
    assert list(found) == [
        "several", "listed@x", "listed@y", "mapped@fast", "mapped@slow", "records@0", "records@1",
        "crossed@a-true", "crossed@a-big1", "crossed@b-true", "crossed@b-big1",
    ]  # fmt: skip
    several = found["several"]
    assert several.cmd == '["make a", "make b"]'
    assert several.params == (("other.yaml", ""), ("params.yaml", "use"))
    assert several.outs == ("a", "b", "curve.tsv", "more.tsv")
    assert (several.cached, several.pushed) == ({"a", "b", "more.tsv"}, {"b", "more.tsv"})
    assert found["mapped@slow"].cmd == "run slow 2"
    assert found["records@1"].cmd == "run 2"
    assert found["listed@y"].outs == ("l/y",)


def test_what_params_lack_is_said() -> None:
    assert fill_in("x ${a.b} y", {"a": {"b": 3}}) == "x 3 y"
    assert fill_in("${a}", {"a": [1]}) == [1]
    with pytest.raises(ValueError, match=r"\$\{a.c\} is not in params.yaml"):
        fill_in("${a.c}", {"a": {}})


def test_a_stage_without_lists() -> None:
    assert make_stage("x", StageEntry(cmd="true"), {}).deps == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": {"b": 6}}, {"a": {"b": 12}}, ["r.a.b 6 → 12"]),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": 1, "b": None}, ["r.b added"]),
        ({"a": 1, "b": 2}, {"a": 1}, ["r.b removed"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["r.a [1, 2] → [1, 3]"]),
        ({"a": [{"x": 1}, {"x": 2}]}, {"a": [{"x": 1}, {"x": 3}]}, ["r.a.1.x 2 → 3"]),
        ({"a": [{"x": 1}]}, {"a": []}, ['r.a [{"x": 1}] → []']),
        ({"a": None}, {"a": "w12"}, ["r.a null → w12"]),
    ],
)
def test_differences_name_the_single_values(old: Any, new: Any, expected: list[str]) -> None:
    assert differences(old, new, "r") == expected
