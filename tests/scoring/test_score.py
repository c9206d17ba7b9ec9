import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scoring_fakes import SIX, counted, fake_judge, grey, write_instructions, write_video

from roboalign.evaluation.external import read as read_scores
from roboalign.scoring import command
from roboalign.scoring.score import Options, match_instructions, score_all, score_file
from roboalign.scoring.table import table
from roboalign.scoring.videos import find

NAMES = (*SIX.names, "total")


def scored(folder, instructions, judge=None, **options):
    judge, options = judge or fake_judge(), Options("toy", **options)
    tasks, problems = match_instructions(find(folder), instructions, options.first_frames)
    return list(score_all(tasks, judge, options)), problems


def test_scores_stand_with_intervals_that_stay_in_range(tmp_path):
    np.save(tmp_path / "bright.npy", grey(250))
    np.save(tmp_path / "mid.npy", grey(128))
    (bright, mid), problems = scored(tmp_path, {"bright": "push the block", "mid.npy": "push the block"})
    assert not problems
    assert bright.video == "bright"
    share = 128 / 255
    for name, maximum in zip(NAMES, (*SIX.max_scores, 10.0), strict=True):
        score = mid.scores[name]
        assert score.score == pytest.approx(share * maximum, abs=1e-4)
        # Nine generated pairs: the largest of their errors, 0.9, is the ninety per cent one.
        assert score.high == pytest.approx(min(maximum, score.score + 0.9))
        assert score.low == pytest.approx(max(0, score.score - 0.9))
        assert score.spread == pytest.approx(0.01 * maximum * np.std(range(5), ddof=1), rel=1e-3)
    assert bright.scores["total"].high == 10
    assert not mid.warnings


def test_the_kind_of_interval_and_its_level_are_asked_for(tmp_path):
    np.save(tmp_path / "mid.npy", grey(128))

    def half(judge, **options):
        (video,), _ = scored(tmp_path, {"mid": "push"}, judge, **options)
        total = video.scores["total"]
        return None if total.low is None else total.score - total.low

    assert half(fake_judge(), level=0.5) == pytest.approx(0.5)  # the fifth of nine
    assert half(fake_judge(), like="all") == pytest.approx(1.8)  # the eighteenth of nineteen
    assert half(fake_judge(generated=8)) == pytest.approx(1.8)  # eight generated ones are too few for 90 %
    assert half(fake_judge(), level=0.99) is None


def test_a_student_without_spread(tmp_path):
    judge = fake_judge()
    student = replace(judge, scorer="student", sample=lambda videos, texts: judge.sample(videos, texts)[2:3])
    np.save(tmp_path / "mid.npy", grey(128))
    (video,), _ = scored(tmp_path, {"mid": "push"}, student)
    assert video.scores["total"].spread is None


@pytest.mark.parametrize(
    ("frames", "rate", "instruction", "warning"),
    [
        (grey(99), None, "push the purple block", "words that are not in the judge's training data: purple"),
        (grey(99), None, "!?", "the instruction has no words"),
        (grey(99), None, "push the block the push", "5 words, of which the judge reads 4"),
        (grey(99, height=8, width=8), None, "push", "8 x 8 are enlarged to 16 x 16"),
        (grey(99, height=16, width=32), None, "push", "50% of each frame is cropped"),
        (grey(99, frames=13), None, "push", "13 frames; the judge was trained on 4 to 12"),
        (grey(99, frames=3), None, "push", "3 frames"),
        (grey(99), 60, "push", "60 frames per second; the judge was trained on 8 to 20; use --stride 3"),
        (grey(99), 2, "push", "2 frames per second; the judge was trained on 8 to 20"),
    ],
)
def test_what_the_judge_never_saw_is_said(tmp_path, frames, rate, instruction, warning):
    if rate is None:
        np.save(tmp_path / "a.npy", frames)
    else:
        write_video(tmp_path / "a.mp4", frames, rate)
    (video,), _ = scored(tmp_path, {"a": instruction})
    assert len(video.warnings) == 1
    assert warning in video.warnings[0]


def test_videos_and_instructions_without_each_other_are_problems(tmp_path):
    np.save(tmp_path / "a.npy", grey(9))
    np.save(tmp_path / "b.npy", grey(9))
    write_video(tmp_path / "b.mp4", grey(9))
    np.save(tmp_path / "c.npy", grey(9))
    tasks, problems = match_instructions(
        find(tmp_path), {"a": "x", "a.npy": "y", "b": "x", "b.mp4": "x", "ghost": "x"}, None
    )
    assert [task.name for task in tasks] == ["a", "b.mp4"]
    reasons = {problem.video: problem.reason for problem in problems}
    assert reasons.keys() == {"a.npy", "b", "ghost", "b.npy", "c.npy"}
    assert "as 'a' already" in reasons["a.npy"]
    assert "b.mp4, b.npy" in reasons["b"]
    assert reasons["ghost"] == "there is no such video"
    assert reasons["c.npy"] == "it has no instruction"


def test_first_frames_are_put_first_or_missed_by_name(tmp_path):
    np.save(tmp_path / "a.npy", grey(0, frames=5))
    np.save(tmp_path / "b.npy", grey(0, frames=5))
    (tmp_path / ".first").mkdir()
    Image.fromarray(grey(240)[0]).save(tmp_path / ".first/a.png")
    (video,), (problem,) = scored(tmp_path, {"a": "push", "b": "push"}, first_frames=tmp_path / ".first")
    assert video.frames == 6
    assert video.scores["total"].score == pytest.approx(240 / 255 * 10 / 6, abs=0.05)
    assert (problem.video, "no first frame" in problem.reason) == ("b", True)


def test_the_file_has_means_over_videos_and_reads_back(tmp_path):
    for number, level in enumerate((50, 100, 200)):
        np.save(tmp_path / f"{number}.npy", grey(level))
    judge = fake_judge()
    videos, _ = scored(tmp_path, {str(number): "push" for number in range(3)}, judge)
    file = score_file(videos, [], judge, Options("toy"))
    assert file.mean["total"].mean == pytest.approx(np.mean([50, 100, 200]) / 25.5, abs=1e-3)
    assert file.mean["total"].low < file.mean["total"].mean < file.mean["total"].high
    assert (file.like, file.calibration_pairs) == ("generated", 9)
    text = table(file)
    assert "mean of 3 videos by the judge" in text
    assert all(name in text for name in NAMES)


@pytest.fixture
def judged(monkeypatch):
    monkeypatch.setattr(command, "load", lambda which, root, device: fake_judge())


def run(tmp_path, folder, instructions, out=None):
    return command.run(tmp_path, folder, instructions, "judge", Options("toy"), out, "cpu")


@pytest.mark.usefixtures("judged")
def test_the_others_are_scored_where_one_video_is_damaged(tmp_path, capsys):
    folder = tmp_path / "videos"
    write_video(folder / "good.mp4", counted())
    (folder / "bad.mp4").write_bytes(b"junk")
    table_of = write_instructions(tmp_path / "i.jsonl", {"good.mp4": "push", "bad.mp4": "push"})
    out = tmp_path / "deep/out.json"
    assert run(tmp_path, folder, table_of, out) == 1
    assert "not scored: bad: it cannot be opened" in capsys.readouterr().err
    file = read_scores(out)
    assert [video.video for video in file.videos] == ["good"]
    assert [problem.video for problem in file.problems] == ["bad"]
    before = out.read_bytes()
    assert run(tmp_path, folder, table_of, out) == 1
    assert out.read_bytes() == before
    (folder / "bad.mp4").unlink()
    assert run(tmp_path, folder, write_instructions(tmp_path / "i.jsonl", {"good": "push"}), out) == 0


@pytest.mark.usefixtures("judged")
def test_nothing_is_written_where_nothing_was_scored(tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "bad.mp4").write_bytes(b"junk")
    out = tmp_path / "out.json"
    assert run(tmp_path, folder, write_instructions(tmp_path / "i.jsonl", {"bad": "push"}), out) == 1
    assert not out.exists()
    assert "is not written" in capsys.readouterr().err


@pytest.mark.usefixtures("judged")
def test_wrong_arguments_are_named(tmp_path, capsys):
    folder = tmp_path / "videos"
    table_of = write_instructions(tmp_path / "i.jsonl", {"a": "push"})
    assert run(tmp_path, folder, table_of) == 2
    assert "is not a folder" in capsys.readouterr().err
    folder.mkdir()
    assert run(tmp_path, folder, table_of) == 2
    assert "has no videos" in capsys.readouterr().err
    assert run(tmp_path, folder, tmp_path / "none.csv") == 2
    assert "none.csv cannot be read" in capsys.readouterr().err


def test_the_document_is_plain_json_without_nan(tmp_path, judged):
    np.save(tmp_path / "a.npy", grey(7))
    out = tmp_path / "out.json"
    assert run(tmp_path, tmp_path, write_instructions(tmp_path / "i.jsonl", {"a": "push"}), out) == 0
    document = json.loads(out.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert document["name"] == "toy"
    assert str(tmp_path) not in out.read_text()
