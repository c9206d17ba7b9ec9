"""Where a report comes from: revision, machine, time and hashes of each stage, from the files of a checkout."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from roboalign.io import write_json
from roboalign.machine import describe_machine, revision
from roboalign.report.names import DASH
from roboalign.report.provenance import VARIABLE, duration, provenance_script, seconds_of, stage_table

LOCK = {
    "schema": "2.0",
    "stages": {
        "tokenizer": {"cmd": "x", "outs": [{"path": "artifacts/tokenizer", "md5": "0123456789abcdef.dir"}]},
        "rl": {"cmd": "x", "outs": [{"path": "artifacts/rl", "md5": "f" * 32}, {"path": "metrics/rl.json"}]},
    },
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(LOCK, sort_keys=False))
    ran = {"seconds": 125.0, "revision": "abcdef0123456789", "cpu": "Example CPU", "cores": 8, "gpus": []}
    write_json(tmp_path / "timings/tokenizer.json", {"seconds": 90.0, "stage": ran})
    return tmp_path


def test_a_stage_has_its_time_machine_and_hashes(checkout: Path) -> None:
    table = stage_table(checkout)
    tokenizer, rl = table["rows"]
    assert [text for text, _ in tokenizer] == ["tokenizer", "2 min 05 s", "abcdef012345", "Example CPU, 8 cores", ""]
    assert tokenizer[-1][1] == "artifacts/tokenizer 0123456789ab"
    assert [text for text, _ in rl[:4]] == ["rl", DASH, DASH, DASH]
    assert table["caption"] == "Stages, 2 min 05 s in all"


def test_the_script_sets_one_variable_to_tables(checkout: Path) -> None:
    script = provenance_script(checkout)
    head, _, value = script.partition(" = ")
    assert head == f"window.{VARIABLE}"
    tables = json.loads(value.rstrip().rstrip(";"))
    assert [table["caption"] for table in tables] == ["This machine", "Stages, 2 min 05 s in all"]
    assert all(len(row) == len(table["head"]) for table in tables for row in table["rows"])


def test_a_checkout_that_ran_nothing_has_no_stages(tmp_path: Path) -> None:
    assert stage_table(tmp_path)["rows"] == []


@pytest.mark.parametrize(
    ("record", "seconds"),
    [
        ({"stage": {"seconds": 9.5}, "seconds": 3.0}, 9.5),
        ({"seconds": {"train": 2.0, "measure": 1.0}}, 3.0),
        ({"seconds": 4}, 4.0),
        ({"speedup": 2.0}, None),
    ],
)
def test_times_are_of_the_whole_stage_if_it_was_recorded(record: dict[str, Any], seconds: float | None) -> None:
    assert seconds_of(record) == seconds


def test_durations_are_read_by_people() -> None:
    assert [duration(value) for value in (0.04, 59.96, 61, 3601)] == ["0 s", "60 s", "1 min 01 s", "60 min 01 s"]


def test_the_revision_says_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert revision(tmp_path) == "unknown"

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "first")
    clean = revision(tmp_path)
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert revision(tmp_path) == f"{clean} + changes"


def test_the_machine_is_described_by_plain_values() -> None:
    machine = describe_machine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["cores"] > 0
    assert machine["packages"]["torch"]
