import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboalign.io import (
    digest,
    parse_json,
    read_json,
    read_tsv,
    replacing,
    round_floats,
    write_json,
    write_text,
    write_tsv,
)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"
    write_text(path, "old")

    def fail_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_json_has_six_digits_sorted_keys_and_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    write_json(path, {"b": 1 / 3, "a": [1, True, "x"]})
    assert path.read_text() == '{\n  "a": [\n    1,\n    true,\n    "x"\n  ],\n  "b": 0.333333\n}\n'
    with pytest.raises(ValueError, match="leave its key out"):
        write_json(path, {"a": float("nan")})
    assert read_json(path)["b"] == 0.333333


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_keeps_six_digits(value: float) -> None:
    assert round_floats(value) == pytest.approx(value, rel=1e-5)
    assert round_floats(round_floats(value)) == round_floats(value)


def test_tables_take_the_union_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write_tsv(path, [{"step": 1, "loss": 0.123456789}, {"step": 2, "kl": 3.0}])
    assert path.read_text() == "step\tloss\tkl\n1\t0.123457\t\n2\t\t3.0\n"
    assert read_tsv(path)[1] == {"step": "2", "loss": "", "kl": "3.0"}


def test_digest_sees_names_and_contents_but_not_compiled_files(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text("1")
    first = digest([tmp_path / "p"])
    (tmp_path / "p" / "__pycache__").mkdir()
    (tmp_path / "p" / "__pycache__" / "a.pyc").write_text("x")
    assert digest([tmp_path / "p"]) == first
    (tmp_path / "p" / "a.py").rename(tmp_path / "p" / "b.py")
    renamed = digest([tmp_path / "p"])
    (tmp_path / "p" / "b.py").write_text("2")
    assert len({first, renamed, digest([tmp_path / "p"]), digest([tmp_path / "p"], "text")}) == 4
    with pytest.raises(FileNotFoundError):
        digest([tmp_path / "absent"])


def test_numbers_survive_the_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"n": 10, "flag": False})
    assert json.loads((tmp_path / "x.json").read_text()) == {"n": 10, "flag": False}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, b"[" * 100_000, "{", "", b"\xff", "9" * 5000])
def test_json_of_others_raises_one_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|Expecting|decode|digits"):
        parse_json(text)
