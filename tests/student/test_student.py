from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from roboalign.bench.build import Builder, all_limits, build, recorded_states
from roboalign.bench.dataset import PairDataset
from roboalign.bench.pairs import Bench
from roboalign.bench.spec import BenchSpec
from roboalign.hardware.spec import DeviceSpec
from roboalign.reward.dimensions import normalise
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.store import Corpus
from roboalign.student.distill import distillation_loss
from roboalign.student.lit import StudentModule
from roboalign.student.measure import measure
from roboalign.student.model import Student, load_student, save_student
from roboalign.student.spec import StudentSpec
from roboalign.training import fit

TEXTS = ["push the yellow block", "move", "words that nobody said"]


@pytest.fixture(scope="module")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


@pytest.fixture(scope="module")
def spec() -> StudentSpec:
    return StudentSpec.model_validate(yaml.safe_load(Path("specs/student/smoke.yaml").read_text()))


def fresh(spec, six) -> Student:
    torch.manual_seed(0)
    return Student(spec, six, Vocabulary.of(TEXTS[:2], spec.encoder.text.words))


def clips(count: int = 3, frames: int = 7) -> torch.Tensor:
    return torch.rand(count, frames, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def bench(toy_episodes, six) -> Bench:
    corpus = Corpus.of(toy_episodes)
    states = recorded_states(corpus)
    spec = BenchSpec.model_validate({"pairs": 30, "shortest": 5, "longest": 12})
    builder = Builder(corpus, spec, six, states, all_limits(corpus.infos, states, six))
    return Bench(build(builder, {}, Path("unused"), 10.0), corpus)


def test_scores_lie_in_the_raw_ranges_and_repeat(spec, six):
    student = fresh(spec, six).eval()
    with torch.no_grad():
        student.head.bias += 3  # far above full marks
    assert torch.equal(student(clips(), TEXTS), torch.tensor([six.maxima] * 3))
    student = fresh(spec, six).eval()
    scores = student(clips(), TEXTS)
    assert torch.equal(scores, student(clips(), TEXTS))
    alone = torch.cat([student(clips()[i : i + 1], TEXTS[i : i + 1]) for i in range(3)])
    assert torch.allclose(scores, alone, atol=1e-5)
    assert not scores.requires_grad


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_clips_of_any_length(spec, six, frames):
    assert torch.isfinite(fresh(spec, six).eval()(clips(1, frames), TEXTS[:1])).all()


def test_distillation_moves_the_student_to_its_teacher(spec, six):
    student = fresh(spec, six).train()
    teacher = torch.rand(3, 6, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor(six.weights)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = distillation_loss(student, clips(), TEXTS, teacher, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_dimensions_without_weight_teach_nothing(spec, six):
    student = fresh(spec, six)
    weights = torch.tensor([1.0, 0, 0, 0, 0, 0])
    distillation_loss(student, clips(), TEXTS, torch.ones(3, 6), weights).backward()
    assert student.head.weight.grad[0].abs().sum() > 0
    assert (student.head.weight.grad[1:] == 0).all()


def test_training_is_the_same_twice_and_survives_saving(spec, six, bench, tmp_path):
    rows = bench.where(split="train")
    students = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        student = fresh(spec, six)
        data = PairDataset(bench, rows, normalise(bench.scores[rows], six), student.vocabulary)
        fit(
            StudentModule(student), data, spec.training, DeviceSpec(threads=1), label="student",
            scratch=tmp_path / name, curves=tmp_path / name / "curve.tsv",
        )  # fmt: skip
        save_student(tmp_path / name / "model.safetensors", student.eval(), "hash")
        students.append(student)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    assert torch.equal(load_student(tmp_path / "a/model.safetensors")(clips(), TEXTS), students[0](clips(), TEXTS))
    assert not torch.equal(students[0](clips(), TEXTS), fresh(spec, six).eval()(clips(), TEXTS))


def test_metrics_keep_to_the_contract(bench, six):
    rows = bench.where(split="train")
    teacher = bench.scores[rows]
    perfect = measure(teacher, teacher, teacher.mean(0), bench, rows, six)
    assert perfect["within_group_accuracy"] == 1 == perfect["within_group_accuracy_labels"]
    assert perfect["total"]["spearman"] == pytest.approx(1)
    assert perfect["labels"]["total"]["mae"] == 0
    reverse = measure(np.array(six.maxima) - teacher, teacher, teacher.mean(0), bench, rows, six)
    assert reverse["within_group_accuracy"] == 0
    assert reverse["n"] == len(rows)


def test_the_papers_student_has_the_papers_size(six):
    spec = StudentSpec.model_validate(yaml.safe_load(Path("specs/student/paper.yaml").read_text()))
    with torch.device("meta"):
        student = Student(spec, six, Vocabulary(tuple(f"w{i}" for i in range(2000)), spec.encoder.text.words))
    assert sum(p.numel() for p in student.parameters()) == pytest.approx(98e6, rel=0.03)


@pytest.mark.parametrize("path", sorted(Path("specs/student").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path):
    StudentSpec.model_validate(yaml.safe_load(path.read_text()))
