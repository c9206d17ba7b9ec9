import pytest
import torch
from scoring_fakes import SIX, fake_judge

from roboalign.io import write_json
from roboalign.judge.model import save_regression_judge
from roboalign.scoring.judges import JudgeError, load
from roboalign.student.model import save_student
from tests.reward.reward_fakes import toy_judge, toy_student

TEXTS = ["push the block"]


@pytest.fixture(scope="module")
def root(tmp_path_factory, toy_episodes):
    """An experiment with a judge and a student."""
    root = tmp_path_factory.mktemp("experiment")
    save_regression_judge(root / "artifacts/judge/model.safetensors", toy_judge(toy_episodes[:12], SIX), "x")
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
        assert (scores <= torch.tensor(SIX.maxima)).all()


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_named(root):
    with pytest.raises(JudgeError, match="no CUDA device"):
        load("judge", root, "cuda")
