import json

import pytest

from roboalign.scoring.instructions import InstructionError, read

ROWS = {"a.mp4": "push the block", "b/c": "öffne, bitte"}


def test_all_three_kinds_of_table_say_the_same(tmp_path):
    rows = [{"video": video, "instruction": text, "more": 1} for video, text in ROWS.items()]
    texts = {
        "a.jsonl": "\n".join(json.dumps(row) for row in rows) + "\n\n",
        "a.json": json.dumps(rows),
        "b.json": json.dumps(ROWS),
        "a.csv": 'instruction,video\npush the block,a.mp4\n"öffne, bitte",b/c\n',
        "a.tsv": "video\tinstruction\n./a.mp4\tpush the block\nb/c\töffne, bitte\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read(tmp_path / name) == ROWS, name


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x", r"a\.txt: instructions must be in a"),
        ("a.jsonl", '{"video": "a", "instruction": "x"}\n{"video"', r"a\.jsonl:2: is not valid JSON"),
        ("a.jsonl", '{"video": "a"}', r"a\.jsonl:1: instruction: is missing"),
        ("a.jsonl", '{"video": "a", "instruction": " "}', r"a\.jsonl:1: instruction: must be text"),
        ("a.jsonl", '{"video": 3, "instruction": "x"}', r"a\.jsonl:1: video: must be text"),
        ("a.jsonl", "[1]", r"a\.jsonl:1: is not an object"),
        ("a.jsonl", "\n", "has no instructions"),
        ("a.json", "3", "must be a list of objects, or one object"),
        ("a.json", "{", "is not valid JSON"),
        ("a.csv", "video;instruction\na;b\n", r"a\.csv:2: video: is missing"),
        ("a.csv", "video,instruction\na\n", r"a\.csv:2: instruction: is missing"),
        ("a.csv", "video,instruction\na,x\nb,y\na,z\n", r"a\.csv:4: video: a already has an instruction at .*a\.csv:2"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InstructionError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_deep_nesting_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InstructionError, match=rf"{name}.*nested too deeply"):
        read(tmp_path / name)


def test_only_a_line_feed_ends_a_line(tmp_path):
    rows = {"a.mp4": "push\u2028the\u0085block", "b.mp4": "lift\u2029it"}
    lines = [json.dumps({"video": video, "instruction": text}, ensure_ascii=False) for video, text in rows.items()]
    (tmp_path / "a.jsonl").write_text("\r\n".join(lines), encoding="utf-8")
    assert read(tmp_path / "a.jsonl") == rows


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InstructionError, match=r"none\.csv cannot be read"):
        read(tmp_path / "none.csv")
