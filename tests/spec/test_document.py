"""Reading YAML: the same values as DVC's reader, or a refusal at the right place; never a traceback, never slow."""

import io
import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError as RuamelError

from roboalign.spec.document import (
    DEPTH,
    NODES,
    SIZE,
    DocumentError,
    Mapping,
    Mark,
    Scalar,
    Sequence,
    parse,
    plain,
    read,
)
from roboalign.spec.dump import dump
from tests.spec.conftest import count_calls


def dvc_reads(text: str) -> object:
    """What DVC's YAML reader makes of a file."""
    return YAML(typ="safe").load(io.StringIO(text))


def same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


SCALARS = [
    "no", "yes", "on", "off", "y", "n", "true", "True", "TRUE", "false", "tRUE", "null", "Null", "NULL", "~", "nul",
    "1e-4", "1E4", "1.e-4", ".5", "-.5", "+1", "-0", "010", "0o10", "-0o10", "0x1F", "0b101", "1_000", "1__0", "1.5e+3",
    ".inf", "-.Inf", "+.INF", ".nan", "-.nan", "08", "09.5", "1:30", "12:30:45", "0.1.2", "1e", "e1", "+", ".",
    "0xg", "1_", "1.0_0", ".5e3", ".5e+3", "5.", "1e400", "nan", "inf", "None", "v1", "a b", "a#b", "0o8", "0b2",
]  # fmt: skip


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_are_read_as_dvc_reads_them(text: str) -> None:
    assert same(plain(parse(f"a: {text}\n", "f"))["a"], dvc_reads(f"a: {text}\n")["a"])  # type: ignore[index]


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from("0123456789-+._eEoxbXnaifINFtrueTRUlyso~<=:T "), min_size=1, max_size=9))
@example("._")
@example("2020-01-01")
@example("<<")
@example("0x_")
def test_any_scalar_is_read_as_dvc_reads_it_or_refused(text: str) -> None:
    document = f"a: {text}\n"
    try:
        ours = plain(parse(document, "f"))["a"]
    except DocumentError:
        return
    try:
        theirs = dvc_reads(document)["a"]  # type: ignore[index]
    except (RuamelError, ValueError):
        pytest.fail(f"{text!r} is read as {ours!r}, but DVC cannot read it")
    assert same(ours, theirs), text


REFUSED = [
    ("a: 1\nb: 2\na: 3\n", 3, 1, "occurs twice, first in line 1"),
    ("a:\n\tb: 1\n", 2, 1, "indent with spaces"),
    ("a: [1, 2\nb: 3\n", 1, 4, "'[' is not closed"),
    ("a: {b: 1\n", 1, 4, "'{' is not closed"),
    ("a: 'x\nb: 1\n", 1, 4, "quote is not closed"),
    ("a: b: c\n", 1, 5, "second ':'"),
    ("a: 1\n b: 2\n", 2, 3, "wrong indentation"),
    ("a: 1\nword\nb: 2\n", 2, 1, "without ':'"),
    ("a: !!python/object:os.system x\n", 1, 4, "tag"),
    ("a: ! x\n", 1, 4, "tag"),
    ("a: !x {b: 1}\n", 1, 4, "tag"),
    ("a: &x [*x]\n", 1, 8, "is inside the value that it repeats"),
    ("a: *x\n", 1, 4, "refers to no anchor"),
    ("a: &x 1\nb: &x 2\n", 2, 4, "defined twice"),
    ("%YAML 1.1\n---\na: 1\n", 1, 1, "directives"),
    ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
    ("- a\n- b\n", 1, 1, "mapping"),
    ("text\n", 1, 1, "mapping"),
    ("1: a\n", 1, 1, "key must be text"),
    ("[a]: b\n", 1, 1, "key must be text"),
    ("a: @b\n", 1, 4, "put the text in quotes"),
    ("a: 2020-01-01\n", 1, 4, "date"),
    ("<<: {a: 1}\n", 1, 1, "special meaning"),
    ("a: b\x00c\n", 1, 5, "U+0000"),
    ("a: b\u2028c: d\n", 1, 5, "U+2028"),
    ("a: " + "9" * 300, 1, 4, "300 characters"),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), REFUSED)
def test_what_is_no_plain_yaml_is_refused_at_its_place(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text, "f")
    assert words in caught.value.message
    assert (caught.value.mark.line + 1, caught.value.mark.column + 1) == (line, column)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\xff\xfea\x00", "UTF-16"), (b"a: 1\nb: \xe9\n", "not in UTF-8"), (b"a: 1\n" * SIZE, "larger than")],
)
def test_encodings_and_sizes_are_bounded(data: bytes, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        parse(data, "f")


def test_a_byte_order_mark_and_windows_lines_are_read() -> None:
    assert plain(parse(b"\xef\xbb\xbfa: 1\r\nb: [x,\r\n  y]\r\n", "f")) == {"a": 1, "b": ["x", "y"]}


def test_files_that_are_not_there_are_errors_too(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file"):
        read(tmp_path / "a.yaml")
    with pytest.raises(DocumentError, match="not a file"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~\n"])
def test_an_empty_file_is_an_empty_mapping(text: str) -> None:
    assert plain(parse(text, "f")) == {}


HOSTILE = [
    "a: " + "[" * 5000 + "]" * 5000,
    "a: " + "{" * 5000 + "}" * 5000,
    "a: " + "{a: " * 5000 + "}" * 5000,
    "a: " + "[\n" * 5000,
    "\n".join(" " * i + "a:" for i in range(700)),
    "- " * 5000,
    "a: &a [x, x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)),
    "a: &a {b: 1}\n" + "".join(f"k{i}: &k{i} {{x: *{'a' if i == 0 else f'k{i - 1}'}}}\n" for i in range(100)),
    "a: &a [" + "1, " * 5000 + "]\n" + "".join(f"b{i}: *a\n" for i in range(20)),
]


@pytest.fixture(scope="module")
def largest() -> int:
    """Calls for the largest admitted document: what a hostile one is measured against."""
    text = "a: [" + "1, " * (NODES - 10) + "]\n"
    return count_calls(lambda: parse(text, "f"))


def refuse(text: str) -> None:
    """Parse a text that must be refused for its depth or its size."""
    with pytest.raises(DocumentError, match=f"deeper than {DEPTH}|more than {NODES}"):
        parse(text, "f")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_files_are_refused_at_less_cost_than_large_ones_are_read(text: str, largest: int) -> None:
    assert count_calls(lambda: refuse(text)) < largest


def test_nodes_know_their_place() -> None:
    document = parse("a:\n  b: [1, two]\n  c: |\n    text\nd: {e: 'f'}\n", "f")
    a = document.entries["a"]
    assert (a.key.line, a.key.column) == (0, 0)
    assert isinstance(a.value, Mapping)
    b = a.value.entries["b"].value
    assert (b.mark.line, b.mark.column, b.mark.end_line, b.mark.end_column) == (1, 5, 1, 13)
    e = document.entries["d"].value
    assert isinstance(e, Mapping)
    f = e.entries["e"].value
    assert isinstance(f, Scalar)
    assert (f.mark.line, f.mark.column, f.quoted) == (4, 7, True)


def test_anchors_repeat_what_they_name() -> None:
    assert plain(parse("a: &x {b: [1, 2]}\nc: *x\n", "f")) == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("[]{}:,-#&*!|>'\"%@` \n\tab1"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text, "f")
    except DocumentError as caught:
        error = caught
    else:
        return
    assert error.mark.line <= text.count("\n") + text.count("\r") + 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse(data, "f")
    except DocumentError as caught:
        error = caught
    else:
        return
    assert error.message


YAML_PIECES = [
    "a", "b: ", "- ", "\n", "  ", "[", "]", "{", "}", ",", "'", '"', "|", ">", "&x ", "*x", "!t ", "\t", "#", "? ",
    ": ", "\r\n", "---", "...", "%", "é", "1", "\\",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(YAML_PIECES), max_size=30).map("".join))
@example("a: [\n")
@example("a: [\n\n\n")
@example("a: '")
@example("- \n\n")
def test_every_place_lies_within_the_file(text: str) -> None:
    def check(mark: Mark) -> None:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
        for line, column in ((mark.line, mark.column), (mark.end_line, mark.end_column)):
            assert line < len(lines), (line, lines)
            assert column <= len(lines[line]) + 1

    def walk(node: object) -> None:
        assert isinstance(node, Scalar | Sequence | Mapping)
        check(node.mark)
        for entry in node.entries.values() if isinstance(node, Mapping) else ():
            check(entry.key)
            walk(entry.value)
        for item in node.items if isinstance(node, Sequence) else ():
            walk(item)

    try:
        walk(parse(text, "f"))
    except DocumentError as error:
        check(error.mark)


@pytest.mark.parametrize("text", ["-0x" + "f" * 160, "0b" + "1" * 198, "9" * 200, "0x" + "f" * 10, "0o7777"])
def test_a_number_that_is_read_can_be_written_and_read_again(text: str) -> None:
    value = plain(parse(f"a: {text}\n", "f"))["a"]
    assert plain(parse(dump({"a": value}), "f"))["a"] == value


@pytest.mark.parametrize("text", ["0x" + "f" * 190, "-0x" + "f" * 170, "-0x" + "f" * 197])
def test_a_number_that_could_not_be_read_again_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="digits; at most 200 are read"):
        parse(f"a: {text}\n", "f")
