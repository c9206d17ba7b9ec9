"""The command with real, untrained scorers: arguments, exit codes, files; never a traceback."""

import json

import numpy as np
import pytest
from scoring_fakes import SIX, counted, fake_judge, write_instructions, write_video

from roboalign.__main__ import main
from roboalign.evaluation.external import read
from roboalign.io import write_json
from roboalign.student.model import save_student
from tests.reward.reward_fakes import toy_student


@pytest.fixture
def root(tmp_path, toy_episodes):
    """An experiment with a student, and two videos with instructions."""
    save_student(tmp_path / "artifacts/student/model.safetensors", toy_student(toy_episodes[:12], SIX), "x")
    write_json(tmp_path / "artifacts/student/calibration.json", fake_judge().calibration.model_dump(mode="json"))
    write_video(tmp_path / "Other Model/a.mp4", counted())
    np.save(tmp_path / "Other Model/b.npy", counted(8))
    write_instructions(tmp_path / "i.jsonl", {"a": "push the block", "b": "push the block"})
    return tmp_path


def score(root, *words, videos="Other Model", table="i.jsonl"):
    return main(["--root", str(root), "score", str(root / videos), "--instructions", str(root / table), *words])


def test_a_folder_is_scored_into_a_file_for_the_evaluation(root, capsys):
    out = root / "external/other.json"
    assert score(root, "--judge", "student", "--json", str(out)) == 0
    file = read(out)
    assert (file.name, file.scorer, file.fit, file.stride) == ("other_model", "student", "crop", 1)
    assert [video.video for video in file.videos] == ["a", "b"]
    assert all(0 <= video.scores["total"].score <= 10 for video in file.videos)
    assert "mean of 2 videos by the student" in capsys.readouterr().out
    before = out.read_bytes()
    assert score(root, "--judge", "student", "--json", str(out)) == 0
    assert out.read_bytes() == before


def test_options_reach_the_file(root):
    out = root / "out.json"
    words = ("--name", "cosmos", "--fit", "pad", "--stride", "2", "--level", "0.5", "--like", "all")
    assert score(root, "--judge", str(root / "artifacts/student"), "--json", str(out), *words) == 0
    document = json.loads(out.read_text())
    chosen = {key: document[key] for key in ("name", "fit", "stride", "level", "like")}
    assert chosen == {"name": "cosmos", "fit": "pad", "stride": 2, "level": 0.5, "like": "all"}
    assert [video["frames"] for video in document["videos"]] == [3, 4]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--level", "1"], 2, "--level is 1"),
        (["--stride", "0"], 2, "--stride is 0"),
        (["--name", "Cosmos 2"], 2, "--name is 'Cosmos 2'"),
        (["--judge", "tutor"], 1, "tutor is missing"),
        ([], 1, "artifacts/judge/model.safetensors is missing"),
        (["--judge", "student", "--first-frames", "nowhere"], 2, "nowhere is not a folder"),
    ],
)
def test_wrong_arguments_are_named(root, capsys, words, code, message):
    assert score(root, *words) == code
    assert message in capsys.readouterr().err


def test_a_wrong_table_or_folder_is_named(root, capsys):
    assert score(root, table="none.jsonl") == 2
    assert "none.jsonl cannot be read" in capsys.readouterr().err
    assert score(root, videos="nothing") == 2
    assert "is not a folder" in capsys.readouterr().err


def test_what_has_no_counterpart_is_listed_and_the_rest_scored(root, capsys):
    write_instructions(root / "i.jsonl", {"a": "push the block", "ghost": "push"})
    assert score(root, "--judge", "student") == 1
    shown = capsys.readouterr()
    assert "not scored: b.npy: it has no instruction" in shown.err
    assert "not scored: ghost: there is no such video" in shown.err
    assert "mean of 1 video by the student" in shown.out


def test_a_file_that_cannot_be_written_is_named(root, capsys):
    (root / "taken").write_text("a file, no folder")
    assert score(root, "--judge", "student", "--json", str(root / "taken/out.json")) == 1
    assert "out.json cannot be written" in capsys.readouterr().err
