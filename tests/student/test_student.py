from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from roboalign.bench.dataset import SetPlan
from roboalign.bench.pairs import Bench
from roboalign.hardware.spec import DeviceSpec
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.probe.spec import OutcomeSpec
from roboalign.reward.dimensions import normalise
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.student.distill import DistillationSets, bench_clips, distillation_loss, read_clips
from roboalign.student.lit import StudentModule
from roboalign.student.measure import measure
from roboalign.student.model import Student, load_student, save_student
from roboalign.student.spec import StudentSpec
from roboalign.training import fit
from tests.reward.reward_fakes import TEXTS, known_clips, toy_bench, toy_eyes, toy_student, unknown_clips


@pytest.fixture(scope="module")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


@pytest.fixture(scope="module")
def fresh(toy_episodes, six) -> Callable[..., Student]:
    return lambda **changes: toy_student(toy_episodes[:12], six, **changes)


@pytest.fixture(scope="module")
def eyes(toy_episodes):
    return toy_eyes(toy_episodes[:12])


@pytest.fixture(scope="module")
def bench(toy_episodes, six, tmp_path_factory) -> Bench:
    return toy_bench(toy_episodes, six, tmp_path_factory.mktemp("bench"), pairs=30)


def test_a_student_knows_the_scenes_of_its_teachers_eyes(fresh, eyes):
    student = fresh()
    for name, tensor in eyes.scenes.state_dict().items():
        assert torch.equal(student.eyes.scenes.state_dict()[name], tensor)
    assert sum(p.numel() for p in student.eyes.parameters()) < sum(p.numel() for p in eyes.parameters())


def test_distillation_moves_scores_and_eyes_to_the_teachers(fresh, eyes, toy_episodes):
    student = fresh().train()
    videos, actions = known_clips(toy_episodes[:3])
    teacher = torch.rand(3, 2, 6, generator=torch.Generator().manual_seed(1))
    clips = read_clips(student, eyes, videos, TEXTS, actions, teacher)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=5e-3)
    found = []
    for _ in range(25):
        logs = distillation_loss(student, clips, torch.zeros(1))
        optimizer.zero_grad()
        logs["loss"].backward()
        optimizer.step()
        found.append({name: value.item() for name, value in logs.items()})
    assert found[-1]["scoring"] < 0.6 * found[0]["scoring"]
    assert found[-1]["perception"] < 0.9 * found[0]["perception"]


def test_dimensions_without_weight_teach_nothing(toy_episodes, six, eyes):
    only = [d.model_copy(update={"weight": float(n == 0)}) for n, d in enumerate(six.dimensions)]
    student = toy_student(toy_episodes[:12], six.model_copy(update={"dimensions": tuple(only)}))
    videos, actions = known_clips(toy_episodes[:3])
    clips = read_clips(student, eyes, videos, TEXTS, actions, torch.ones(3, 2, 6))
    distillation_loss(student, clips, torch.zeros(1))["loss"].backward()
    gradient = student.members[0].head[-1].weight.grad.view(2, 6, -1).abs().sum(-1)
    assert (gradient[:, 0] > 0).all()
    assert (gradient[:, 1:] == 0).all()


def test_clips_of_unknown_scenes_teach_scores_and_no_perception(fresh, eyes):
    student, videos = fresh(), unknown_clips(3)
    clips = read_clips(student, eyes, videos, TEXTS, torch.zeros(3, 6, 4), torch.ones(3, 2, 6))
    assert clips.tasks.tolist() == [-1] * 3
    assert clips.points.isnan().all()
    logs = distillation_loss(student, clips, torch.zeros(1))
    assert logs["perception"] == 0 < logs["scoring"]
    logs["loss"].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())


def test_what_is_read_for_distillation_is_what_the_student_scores(fresh, eyes, bench):
    """Of a clip of any length, alone or padded among longer ones."""
    # Without actions: what they should lead to is told by the teacher's eyes.
    student = fresh(encoder={"inputs": ["text", "video"]}).eval()
    rows = bench.where(split="train")
    assert len({len(bench.frames(row)) for row in rows}) > 2
    teacher = torch.rand(len(rows), 2, 6, generator=torch.Generator().manual_seed(0)).numpy()
    clips = bench_clips(student, eyes, bench, rows, teacher)
    assert torch.equal(clips.scores, torch.from_numpy(teacher))
    for place in range(0, len(rows), 7):
        frames, actions = bench.clip(rows[place])
        video = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())[None]
        with torch.no_grad():
            observation = student.observe(video, torch.from_numpy(actions)[None])
            words = student.vocabulary.encode([bench.pairs[rows[place]].instruction])
            own = student.predict(observation, words, 0)
        one = clips.select([place])
        one.scores[:] = own
        assert distillation_loss(student, one, torch.zeros(1))["mae"] < 1e-4
        assert one.valid.sum() == min(len(frames), student.encoder_spec.frames)


def train(student: Student, eyes, bench: Bench, folder: Path) -> None:
    rows = bench.where(split="train")
    clips = bench_clips(student, eyes, bench, rows, normalise(bench.labels[rows], student.reward))
    plan = SetPlan.of(bench, rows, student.spec.set_size, student.spec.group_share)
    folder.mkdir(exist_ok=True)
    fit(
        StudentModule(student), DistillationSets(clips, plan, 0), student.spec.training, DeviceSpec(threads=1),
        label="student", scratch=folder, curves=folder / "curve.tsv",
    )  # fmt: skip


def test_a_killed_run_ends_with_the_same_file_and_a_saved_student_scores_the_same(
    fresh, eyes, bench, toy_episodes, tmp_path
):
    class KilledError(Exception):
        pass

    whole, broken, resumed = fresh(), fresh(), fresh()
    train(whole, eyes, bench, tmp_path / "a")
    original = StudentModule.training_step

    def until_four(self, batch, index):
        if self.step == 4:
            raise KilledError
        return original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudentModule, "training_step", until_four)
        with pytest.raises(KilledError):
            train(broken, eyes, bench, tmp_path / "b")
    train(resumed, eyes, bench, tmp_path / "b")
    for name, student in (("a", whole), ("b", resumed)):
        save_student(tmp_path / name / "model.safetensors", student.eval(), "hash")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    videos, actions = known_clips(toy_episodes[:3])
    loaded, scores = load_student(tmp_path / "a/model.safetensors"), whole(videos, TEXTS, actions)
    assert torch.equal(loaded(videos, TEXTS, actions), scores)
    assert not torch.equal(scores, fresh().eval()(videos, TEXTS, actions))


def test_metrics_keep_to_the_contract(bench, six):
    rows = [row for row in bench.where(split="train") if bench.pairs[row].origin != "group"]
    teacher = bench.labels[rows]
    perfect = measure(teacher, teacher, teacher.mean(0), bench, rows, six)
    assert perfect["n"] == len(rows)
    assert perfect["total"]["spearman"] == pytest.approx(1)
    assert perfect["faithful"]["total"]["mae"] == perfect["labels"]["total"]["mae"] == 0
    reverse = measure(np.array(six.maxima) - teacher, teacher, teacher.mean(0), bench, rows, six)
    assert reverse["total"]["spearman"] == pytest.approx(-1)


@pytest.mark.parametrize("path", sorted(Path("specs/student").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path):
    StudentSpec.model_validate(yaml.safe_load(path.read_text()))


def test_the_papers_student_has_the_papers_size(six: RewardSpec) -> None:
    spec = StudentSpec.model_validate(yaml.safe_load(Path("specs/student/paper.yaml").read_text()))
    with torch.device("meta"):
        eyes = Probe(spec.perception, [], (256, 320))
        words = Vocabulary(tuple(f"w{i}" for i in range(2000)), spec.encoder.text.words)
        student = Student(spec, six, words, 7, eyes, OutcomeModel(OutcomeSpec(), 0, 7))
    assert sum(p.numel() for p in student.parameters()) == pytest.approx(98e6, rel=0.03)
