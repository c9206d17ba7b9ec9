"""Writing YAML: PyYAML (1.1, the stages) and ruamel.yaml (1.2, DVC) both read back what was written."""

import io

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from roboalign.spec.document import parse, plain
from roboalign.spec.dump import dump, flow

TRAPS = [
    "no", "Yes", "on", "y", "true", "null", "~", "", " ", "1e-4", "1e5", "010", "0o10", "0x1F", "1_000", "12:30:45",
    "1:30", ".inf", ".nan", "2020-01-01", "<<", "=", "- a", "a: b", "#c", "a #b", "'", '"', "\\", "\n", "a\nb\n", "\ta",
    "é", "日本", "😀", "\x85", "\u2028",
    "&a", "*a", "!a", "%a", "@a", "`a", "[", "{", "|", ">", "?", "? a", "a:", "-", "---", "...",
]  # fmt: skip

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30) | st.sampled_from(TRAPS)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
keys = st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=20) | st.sampled_from(TRAPS[:20])
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(keys, v, max_size=4), max_leaves=12)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(keys, values, max_size=5))
@example({trap or "empty": trap for trap in TRAPS})
@example({"a": [1e-05, 1e20, -0.0, 5e-324, 1.0, 123456789.123]})
def test_both_readers_read_back_what_was_written(value: dict[str, object]) -> None:
    text = dump(value)
    assert yaml.safe_load(text) == value
    assert YAML(typ="safe").load(io.StringIO(text)) == value
    types = [type(item) for item in flat(value)]
    assert [type(item) for item in flat(yaml.safe_load(text))] == types
    assert [type(item) for item in flat(YAML(typ="safe").load(io.StringIO(text)))] == types


def flat(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flat(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


def test_a_section_is_laid_out_for_people_and_diffs() -> None:
    section = {"rollout": {"swr": {"window": 6}, "sweep": [2, 4], "rate": 1e-4, "name": "no", "text": "a: b"}}
    assert dump(section) == (
        "rollout:\n  swr:\n    window: 6\n  sweep:\n    - 2\n    - 4\n  rate: 0.0001\n  name: 'no'\n  text: 'a: b'\n"
    )


def test_lines_are_never_folded() -> None:
    text = "word " * 100 + "end"
    assert dump({"a": text}).count("\n") == 1
    assert plain(parse(dump({"a": text}), "f")) == {"a": text}


@pytest.mark.parametrize(
    ("value", "text"), [(["a", "b"], "[a, b]"), ({}, "{}"), (None, "null"), ("no", "'no'"), (1, "1")]
)
def test_flow_is_one_line(value: object, text: str) -> None:
    assert flow(value) == text
