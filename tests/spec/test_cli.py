"""The command line: what people see, exit codes, switching experiments, suggestions; never a traceback."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from roboalign.__main__ import main
from roboalign.cli.parser import COMMANDS
from roboalign.spec.diagnostics import distance, nearest
from roboalign.spec.document import parse, plain, read
from roboalign.spec.library import Library
from roboalign.spec.use import switch_experiment
from tests.spec.conftest import count_calls

Edit = Callable[[str, str, str], None]
Capture = pytest.CaptureFixture[str]


def test_an_error_looks_like_a_compilers(tree: Path, edit: Edit, capsys: Capture) -> None:
    edit("specs/rollout/w6.yaml", "swr: {kind: swr, window: 6}", "swr:\n    kind: swr\n    windw: 6")
    line = (tree / "specs/rollout/w6.yaml").read_text().split("\n").index("    windw: 6") + 1
    assert main(["--root", str(tree), "check"]) == 2
    assert capsys.readouterr().err == (
        f"specs/rollout/w6.yaml:{line}:5: error: unknown key 'windw'; did you mean 'window'?\n"
        f" {line} |     windw: 6\n"
        f" {' ' * len(str(line))} |     ^~~~~\n"
        "1 error in 1 file\n"
    )


def test_all_errors_are_reported_at_once_in_order(tree: Path, edit: Edit, capsys: Capture) -> None:
    edit("specs/rollout/w6.yaml", "swr, window: 6", "swr, window: six")
    edit("specs/judge/tiny.yaml", "members: 3", "members: [3]")
    edit("params.yaml", "panda", "pnda")
    assert main(["--root", str(tree), "check"]) == 2
    lines = [line for line in capsys.readouterr().err.split("\n") if ": error: " in line]
    assert [line.split(":")[0] for line in lines] == ["params.yaml", "specs/judge/tiny.yaml", "specs/rollout/w6.yaml"]


def test_json_for_editors(tree: Path, edit: Edit, capsys: Capture) -> None:
    edit("params.yaml", "panda", "pnda")
    assert main(["--root", str(tree), "check", "--json"]) == 2
    (row,) = json.loads(capsys.readouterr().out)
    text = (tree / "params.yaml").read_text().split("\n")
    assert text[row["line"] - 1][row["column"] - 1 : row["end_column"] - 1] == "pnda"
    assert (row["file"], row["severity"], row["suggestion"]) == ("params.yaml", "error", "panda")


def test_what_is_valid_is_said(tree: Path, capsys: Capture) -> None:
    assert main(["--root", str(tree), "check"]) == 0
    assert capsys.readouterr().out.startswith("valid: ")
    assert main(["--root", str(tree), "check", "paper"]) == 0
    assert main(["--root", str(tree), "check", "--json"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chekc"], "unknown command 'chekc'; did you mean 'check'?"),
        (["xyzzy"], "available: init, check, show, plan, inspect, convert, schema, verify, use"),
        (["check", "papr"], "error: there is no specs/experiments/papr.yaml; did you mean 'paper'?"),
        (["show", "rolout"], "there is no 'rolout'; did you mean 'rollout'?"),
        (
            ["show", "rollout.decodings.swr.windw"],
            "there is no 'windw' in 'rollout.decodings.swr'; did you mean 'window'?",
        ),
        (["use", "tniy"], "did you mean 'tiny'?"),
        (["plan", "../../etc/passwd"], "there is no specs/experiments/../../etc/passwd.yaml"),
    ],
)
def test_misspelled_words_are_answered(tree: Path, capsys: Capture, arguments: list[str], words: str) -> None:
    assert main(["--root", str(tree), *arguments] if arguments[0] in COMMANDS else arguments) == 2
    assert words in capsys.readouterr().err


def test_outside_a_checkout(tmp_path: Path, capsys: Capture) -> None:
    assert main(["--root", str(tmp_path), "check"]) == 2
    assert "run this from the root of the checkout" in capsys.readouterr().err
    assert main(["--root", str(tmp_path), "verify"]) == 2
    assert "dvc.yaml:1:1: error: there is no such file" in capsys.readouterr().err


def test_strays_are_noticed(tree: Path, capsys: Capture) -> None:
    (tree / "specs/rolout").mkdir()
    (tree / "specs/w6.yaml").write_text("a: 1\n")
    (tree / "specs/rollout/w9.yml").write_text("a: 1\n")
    assert main(["--root", str(tree), "check"]) == 2
    errors = capsys.readouterr().err
    assert "specs/rolout:1:1: error: no part has this name; did you mean 'rollout'?" in errors
    assert "specs/w6.yaml:1:1: error: this file is not in the folder of a part" in errors
    assert "specs/rollout/w9.yml:1:1: error: this is not read" in errors


def test_show_prints_sections_fields_and_origins(tree: Path, edit: Edit, capsys: Capture) -> None:
    edit("params.yaml", "set: {}", "set: {rollout.decodings.swr.window: 9}")
    root = ["--root", str(tree)]
    assert main([*root, "show", "rollout.decodings.swr.window"]) == 0
    assert capsys.readouterr().out == "9\n"
    assert main([*root, "show", "rollout.decodings.swr", "--experiment", "tiny"]) == 0
    assert plain(parse(capsys.readouterr().out, "f"))["window"] == 6
    assert main([*root, "show", "rollout", "--origins"]) == 0
    origins = {line.split(":")[0]: line.split("# ")[1] for line in capsys.readouterr().out.strip().split("\n")}
    assert origins["rollout.decodings.swr.window"].startswith("params.yaml:")
    assert origins["rollout.horizon"].startswith("specs/rollout/w6.yaml:")
    assert origins["rollout.temperature"] == "default"
    assert main([*root, "show"]) == 0
    assert capsys.readouterr().out.startswith("sources:\n  metaworld:\n")


def test_use_switches_the_whole_experiment_and_keeps_comments(tree: Path, edit: Edit, capsys: Capture) -> None:
    edit("params.yaml", "rollout: null", "rollout: w12  # wide")
    edit("params.yaml", "set: {}", "set: {rollout.decodings.swr.window: 9}")
    comments = [line for line in (tree / "params.yaml").read_text().split("\n") if line.strip().startswith("#")]
    assert main(["--root", str(tree), "use", "paper"]) == 0
    out = capsys.readouterr().out
    assert "use.rollout: w12" in out
    assert "set: {rollout.decodings.swr.window: 9}" in out
    text = (tree / "params.yaml").read_text()
    assert [line for line in text.split("\n") if line.strip().startswith("#")] == comments
    assert "rollout: null  # wide" in text
    value = plain(read(tree / "params.yaml"))
    assert value["use"]["experiment"] == "paper"
    assert value["sources"] == ["rt1", "bridge", "calvin", "libero"]
    assert value["set"] == {}
    assert main(["--root", str(tree), "check"]) == 0


def test_use_there_and_back_is_the_same_file(tree: Path) -> None:
    before = (tree / "params.yaml").read_bytes()
    for name in ("paper", "smoke", "tiny"):
        assert main(["--root", str(tree), "use", name]) == 0
    assert (tree / "params.yaml").read_bytes() == before


BY_DVC = """use:
  # a comment
  experiment: tiny
  reward:
  rollout: w12
  hardware:

# another
sources:
- metaworld
- fetch

# a third
set:
  rollout:
    swr:
      window: 9
# the end
"""


@pytest.mark.parametrize("keep", [False, True])
def test_use_understands_the_form_that_dvc_writes(tree: Path, keep: bool) -> None:
    (tree / "params.yaml").write_text(BY_DVC)
    text, reset = switch_experiment(Library(tree), "smoke", keep=keep)
    value = plain(parse(text, "f"))
    assert value["use"]["experiment"] == "smoke"
    assert value["sources"] == ["metaworld", "fetch", "panda", "jaco"]
    assert value["use"]["reward"] is None
    assert value["use"]["rollout"] == ("w12" if keep else None)
    assert value["set"] == ({"rollout": {"swr": {"window": 9}}} if keep else {})
    assert len(reset) == (0 if keep else 2)
    for comment in ("# a comment", "# another", "# a third", "# the end"):
        assert comment in text


def test_use_leaves_a_broken_file_alone(tree: Path, edit: Edit) -> None:
    edit("params.yaml", "set: {}", "set: {a: [}")
    before = (tree / "params.yaml").read_bytes()
    assert main(["--root", str(tree), "use", "paper"]) == 2
    assert (tree / "params.yaml").read_bytes() == before


def test_help_and_missing_arguments_end_as_usual(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "check" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2


HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e\x00"


@pytest.mark.parametrize(
    "line", ['"\\e[2J\\a\\r\\u009b\\u202e\\0": 1', 'window: "\\e[2J\\u202e"', '"a\\nb": 1', HOSTILE, "kind: \x1b[2J"]
)
def test_no_control_character_reaches_the_terminal(tree: Path, capsys: Capture, line: str) -> None:
    with (tree / "specs/rollout/w6.yaml").open("a", newline="") as file:
        file.write(f"{line}\n")
    assert main(["--root", str(tree), "check"]) == 2
    text = capsys.readouterr().err
    assert all(character.isprintable() or character == "\n" for character in text), repr(text)
    # One line for the message, two for its place: a line feed in a key adds none.
    heads = [row for row in text.split("\n") if row.startswith("specs/rollout/w6.yaml:")]
    assert heads
    assert len(text.split("\n")) <= 3 * len(heads) + 2
    assert main(["--root", str(tree), "check", "--json"]) == 2
    assert all(row["message"].isprintable() for row in json.loads(capsys.readouterr().out))


def test_the_cost_of_unknown_keys_grows_with_their_number(tree: Path, capsys: Capture) -> None:
    file = tree / "specs/rollout/w6.yaml"
    intact = file.read_text(encoding="utf-8")

    def count(keys: int) -> int:
        file.write_text(intact + "".join(f"horizn{number}: 1\n" for number in range(keys)), encoding="utf-8")
        calls = count_calls(lambda: main(["--root", str(tree), "check"]))
        lines = [row for row in capsys.readouterr().err.split("\n") if "unknown key" in row]
        assert len(lines) == keys
        assert sum("did you mean 'horizon'" in row for row in lines) == 20
        return calls

    count(20)  # builds the validators
    none, some, many = count(20), count(300), count(900)
    assert many - none < 4 * (some - none)


def test_a_closed_pipe_is_no_error() -> None:
    root = Path(__file__).parent.parent.parent
    line = f"set -o pipefail; {sys.executable} -m roboalign show | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == "sources:\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("left", "right", "edits"), [("window", "windw", 1), ("ab", "ba", 1), ("abc", "abc", 0), ("kitten", "sitting", 3)]
)
def test_distance_counts_edits(left: str, right: str, edits: int) -> None:
    assert distance(left, right) == distance(right, left) == edits


@pytest.mark.parametrize(
    ("word", "candidates", "expected"),
    [
        ("windw", ["window", "width"], "window"),
        ("w", ["w6", "w12"], "w6"),
        ("zzz", ["window"], ""),
        ("x" * 1000, ["window"], ""),
        ("", ["a", "ab"], ""),
        ("Rollout", ["rollout"], "rollout"),
    ],
)
def test_nearest_is_near_or_nothing(word: str, candidates: list[str], expected: str) -> None:
    assert nearest(word, candidates) == expected
