import shutil
import sys
from pathlib import Path

import fsspec
import pytest
import torch
import yaml
from pydantic import TypeAdapter
from scoring_fakes import SIX, fake_judge, grey, write_video

from roboalign.checkpoint import save
from roboalign.export.folder import export_part
from roboalign.io import write_json
from roboalign.judge.openai_api import OpenAIJudge
from roboalign.judge.spec import JudgeSpec
from roboalign.scoring.command import run
from roboalign.scoring.judges import JudgeError, load
from roboalign.scoring.score import Options
from roboalign.student.model import save_student
from tests.reward.reward_fakes import toy_judge, toy_student

TEXTS = ["push the block"]


@pytest.fixture(scope="module")
def root(tmp_path_factory, toy_episodes):
    """An experiment with a judge and a student."""
    root = tmp_path_factory.mktemp("experiment")
    toy_judge(toy_episodes[:12], SIX).save(root / "artifacts/judge/model.safetensors", "x")
    save_student(root / "artifacts/student/model.safetensors", toy_student(toy_episodes[:12], SIX), "x")
    for name in ("judge", "student"):
        write_json(root / f"artifacts/{name}/calibration.json", fake_judge().calibration.model_dump(mode="json"))
    return root


def test_judge_and_student_come_by_name_by_folder_and_by_file(root):
    videos = torch.randint(0, 255, (1, 6, 3, 32, 32), dtype=torch.uint8)
    for name, folder, samples in (("judge", "judge", 2), ("student", "student", 1)):
        named = load(name, root, "cpu")
        by_folder = load(str(root / f"artifacts/{folder}"), root / "elsewhere", "cpu")
        by_file = load(str(root / f"artifacts/{folder}/model.safetensors"), root / "elsewhere", "cpu")
        assert named.scorer == by_folder.scorer == by_file.scorer == name
        assert named.digest == by_folder.digest == by_file.digest
        scores = named.sample(videos, TEXTS)
        assert scores.shape == (samples, 1, 6)
        assert torch.equal(scores, by_file.sample(videos, TEXTS))
        assert (scores >= 0).all()
        assert (scores <= torch.tensor(SIX.max_scores)).all()


def test_an_exported_judge_scores_without_an_experiment(root, tmp_path):
    """From a folder, and from a place that is not a path, such as the hub; with the digest of the experiment's."""
    videos = torch.randint(0, 255, (1, 6, 3, 32, 32), dtype=torch.uint8)
    for part in ("judge", "student"):
        export_part(root, part, tmp_path / part, {}, "")
        named = load(part, root, "cpu")
        place = fsspec.filesystem("memory")
        place.put(f"{tmp_path / part}/", f"published/{part}/", recursive=True)
        for which in (str(tmp_path / part), f"memory://published/{part}"):
            loaded = load(which, tmp_path / "nowhere", "cpu")
            assert (loaded.scorer, loaded.digest, loaded.calibration) == (part, named.digest, named.calibration)
            assert torch.equal(loaded.sample(videos, TEXTS), named.sample(videos, TEXTS))
    place.rm("published/student/calibration.json")
    with pytest.raises(JudgeError, match=r"memory://published/student holds no calibration\.json"):
        load("memory://published/student", tmp_path, "cpu")
    with pytest.raises(JudgeError, match=r"nothing://here: calibration\.json cannot be fetched: Protocol not known"):
        load("nothing://here", tmp_path, "cpu")


def test_a_missing_extra_is_named(root, tmp_path, monkeypatch):
    value = yaml.safe_load(Path("specs/judge/paper.yaml").read_text())
    spec = TypeAdapter(JudgeSpec).validate_python(value)
    save(tmp_path / "model.safetensors", {}, spec=spec.model_dump(mode="json"), reward=SIX.model_dump(mode="json"))
    shutil.copy(root / "artifacts/judge/calibration.json", tmp_path)
    monkeypatch.setitem(sys.modules, "roboalign.judge.qwen3_vl", None)
    with pytest.raises(JudgeError, match=r"a judge of the kind qwen3_vl needs .*; install the extra: roboalign\[vlm\]"):
        load(str(tmp_path), tmp_path, "cpu")


def test_what_is_missing_or_damaged_is_named(root, tmp_path):
    with pytest.raises(JudgeError, match=r"artifacts/judge/model\.safetensors is missing; run `dvc repro`"):
        load("judge", tmp_path, "cpu")
    with pytest.raises(JudgeError, match="name judge, student, or a judge's file"):
        load("tutor", tmp_path, "cpu")
    alone = tmp_path / "model.safetensors"
    alone.write_bytes((root / "artifacts/judge/model.safetensors").read_bytes())
    with pytest.raises(JudgeError, match=r"calibration\.json is missing or damaged"):
        load(str(alone), tmp_path, "cpu")
    (tmp_path / "calibration.json").write_text("{}")
    with pytest.raises(JudgeError, match=r"calibration\.json is missing or damaged"):
        load(str(alone), tmp_path, "cpu")
    (tmp_path / "calibration.json").write_bytes((root / "artifacts/judge/calibration.json").read_bytes())
    assert load(str(alone), tmp_path, "cpu").scorer == "judge"
    alone.write_bytes(b"junk")
    with pytest.raises(JudgeError, match="cannot be read"):
        load(str(alone), tmp_path, "cpu")


def test_a_judge_behind_a_server_is_loaded_too_and_one_that_is_silent_ends_in_one_line(root, tmp_path, capsys):
    value = yaml.safe_load(Path("specs/judge/api.yaml").read_text())
    value |= {"base_url": "http://127.0.0.1:9/v1", "timeout_s": 1.0, "retries": 0}
    spec = TypeAdapter(JudgeSpec).validate_python(value)
    OpenAIJudge(spec, SIX, root=tmp_path).save(tmp_path / "judge/model.safetensors", "x")
    shutil.copy(root / "artifacts/judge/calibration.json", tmp_path / "judge")
    found = load(str(tmp_path / "judge"), tmp_path, "cpu")
    assert (found.scorer, found.vocabulary, found.reward) == ("judge", None, SIX)
    write_video(tmp_path / "videos/a.mp4", grey(90, height=32, width=32))
    (tmp_path / "texts.jsonl").write_text('{"video": "a.mp4", "instruction": "push the block"}\n')
    options = Options("mine", "crop", 1, 0.9, "generated", None)
    code = run(tmp_path, tmp_path / "videos", tmp_path / "texts.jsonl", str(tmp_path / "judge"), options, None, "cpu")
    assert code == 1
    error = capsys.readouterr().err
    assert "127.0.0.1:9" in error
    assert "0 of 1 videos were scored before" in error
    assert "Traceback" not in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_named(root):
    with pytest.raises(JudgeError, match="no CUDA device"):
        load("judge", root, "cuda")
