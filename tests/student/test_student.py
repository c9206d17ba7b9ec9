from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from roboalign.bench.dataset import ObservedSets, SetPlan, observe_pairs, read_video, score_pairs
from roboalign.bench.pairs import Bench
from roboalign.hardware.spec import DeviceSpec
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.probe.spec import OutcomeSpec, PerceptionSpec
from roboalign.reward.dimensions import normalise
from roboalign.reward.lit import RewardModule
from roboalign.reward.losses import set_loss
from roboalign.reward.observation import make_set
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.student.measure import measure
from roboalign.student.model import Student, load_student, save_student
from roboalign.student.spec import StudentSpec
from roboalign.training import fit
from tests.gradients import GradientRecorder, assert_equal_gradients, assert_equal_weights
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


def test_a_student_perceives_through_the_first_network_of_the_probe_and_leaves_it_alone(fresh, eyes, bench, tmp_path):
    student = fresh()
    assert len(student.eyes.members) == 1 < len(eyes.members)
    known = {name: tensor.clone() for name, tensor in eyes.first().state_dict().items()}
    assert student.eyes.state_dict().keys() == known.keys()
    train(student, bench, tmp_path)
    assert all(torch.equal(tensor, student.eyes.state_dict()[name]) for name, tensor in known.items())
    assert not any(parameter.requires_grad for parameter in student.eyes.parameters())


def test_gradients_reach_the_pixels_through_the_eyes(fresh, toy_episodes):
    videos, actions = known_clips(toy_episodes[:3])
    pixels = (videos.float() / 255).requires_grad_(True)
    fresh().eval().differentiable(pixels, TEXTS, actions).sum().backward()
    assert (pixels.grad.abs().amax((1, 2, 3, 4)) > 0).all()


def test_distillation_moves_scores_to_the_teachers(fresh, bench, tmp_path):
    student, rows = fresh(), bench.filter(split="train")
    teacher = np.random.default_rng(0).random((len(rows), 2, 6)) * np.array(student.reward.max_scores)

    def error():
        return np.abs(score_pairs(student.eval().sample, bench, rows)[0] - teacher).mean()

    before = error()
    train(student, bench, tmp_path, teacher, steps=40, batch_size=12, learning_rate=0.01)
    assert error() < 0.8 * before


def test_dimensions_without_weight_teach_nothing(toy_episodes, six):
    names = list(six.dimensions)
    only = {k: d.model_copy(update={"weight": float(k == names[0])}) for k, d in six.dimensions.items()}
    student = toy_student(toy_episodes[:12], six.model_copy(update={"dimensions": only}))
    videos, actions = known_clips(toy_episodes[:3])
    clips = make_set(student.observe(videos, actions), student.vocabulary.encode(TEXTS), torch.ones(3, 2, 6))
    batch = {name: value.unsqueeze(0) for name, value in clips.items()} | {"grouped": torch.ones(1)}
    set_loss(student, batch, 0, student.spec.loss)["loss"].backward()
    gradient = student.members[0].head[-1].weight.grad.view(2, 6, -1).abs().sum(-1)
    assert (gradient[:, 0] > 0).all()
    assert (gradient[:, 1:] == 0).all()


def test_a_student_with_a_backbone_learns_from_pictures(toy_episodes, six):
    """For scenes that no probe knows, such as real robots."""
    appearance = {"backbone": "convnext_atto", "level": 0, "frames": 2, "grid": 2, "channels": 4}
    student = toy_student([], six, encoder={"appearance": appearance})
    videos = unknown_clips(3)
    observation = student.observe(videos, torch.zeros(3, 6, 4))
    clips = make_set(observation, student.vocabulary.encode(TEXTS), torch.ones(3, 2, 6))
    assert torch.equal(clips["videos"], videos)
    batch = {name: value.unsqueeze(0) for name, value in clips.items()} | {"grouped": torch.ones(1)}
    set_loss(student, batch, 0, student.spec.loss)["loss"].backward()
    assert student.members[0].appearance.reduce.weight.grad.abs().sum() > 0


def train(student: Student, bench: Bench, folder: Path, teacher=None, micro_batches=1, callbacks=(), **changes) -> None:
    """Train for a few steps on the train split, towards raw scores."""
    rows, spec = bench.filter(split="train"), student.train().spec
    words = student.vocabulary.encode([bench.pairs[row].instruction for row in rows])
    targets = normalise(bench.labels[rows] if teacher is None else teacher, student.reward)
    plan = SetPlan.of(bench, rows, spec.set_size, spec.group_share)
    data = ObservedSets(observe_pairs(student, bench, rows), words, targets, plan, 0, partial(read_video, bench, rows))
    training = spec.training.model_copy(update=changes)
    folder.mkdir(exist_ok=True)
    fit(
        RewardModule(student, spec.loss, training), data, training, DeviceSpec(threads=1), label="student",
        scratch=folder, curves=folder / "curve.tsv", micro_batches=micro_batches, callbacks=callbacks,
    )  # fmt: skip


def test_a_killed_run_ends_with_the_same_file_and_a_saved_student_scores_the_same(fresh, bench, toy_episodes, tmp_path):
    class KilledError(Exception):
        pass

    whole, broken, resumed = fresh(), fresh(), fresh()
    train(whole, bench, tmp_path / "a")
    original = RewardModule.training_step

    def until_four(self, batch, index):
        if self.step == 4:
            raise KilledError
        return original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RewardModule, "training_step", until_four)
        with pytest.raises(KilledError):
            train(broken, bench, tmp_path / "b")
    train(resumed, bench, tmp_path / "b")
    for name, student in (("a", whole), ("b", resumed)):
        save_student(tmp_path / name / "model.safetensors", student.eval(), "hash")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    videos, actions = known_clips(toy_episodes[:3])
    loaded, scores = load_student(tmp_path / "a/model.safetensors"), whole(videos, TEXTS, actions)
    assert torch.equal(loaded(videos, TEXTS, actions), scores)
    assert not torch.equal(scores, fresh().eval()(videos, TEXTS, actions))


def test_micro_batches_train_the_same(fresh, bench, tmp_path):
    whole, divided = (fresh(encoder={"dropout": 0.0, "text": {"hidden_words": 0.0}}) for _ in range(2))
    expected, found = GradientRecorder(), GradientRecorder()
    train(whole, bench, tmp_path / "1", steps=4, learning_rate=5e-5, callbacks=(expected,))
    train(divided, bench, tmp_path / "4", steps=4, learning_rate=5e-5, micro_batches=4, callbacks=(found,))
    assert_equal_gradients(found, expected)
    assert_equal_weights(divided, whole, expected)


def test_metrics_keep_to_the_contract(bench, six):
    rows = [row for row in bench.filter(split="train") if bench.pairs[row].origin != "group"]
    teacher = bench.labels[rows]
    perfect = measure(teacher, teacher, teacher.mean(0), bench, rows, six)
    assert perfect["n"] == len(rows)
    assert perfect["total"]["spearman"] == pytest.approx(1)
    assert perfect["faithful"]["total"]["mae"] == perfect["labels"]["total"]["mae"] == 0
    reverse = measure(np.array(six.max_scores) - teacher, teacher, teacher.mean(0), bench, rows, six)
    assert reverse["total"]["spearman"] == pytest.approx(-1)


@pytest.mark.parametrize("path", sorted(Path("specs/student").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path):
    StudentSpec.model_validate(yaml.safe_load(path.read_text()))


def test_the_papers_student_has_the_papers_size(six: RewardSpec) -> None:
    spec = StudentSpec.model_validate(yaml.safe_load(Path("specs/student/paper.yaml").read_text()))
    with torch.device("meta"):
        eyes = Probe(PerceptionSpec(), [], (256, 320))
        words = Vocabulary(tuple(f"w{i}" for i in range(2000)), spec.encoder.text.words)
        student = Student(spec, six, words, 7, eyes, OutcomeModel(OutcomeSpec(), 0, 7))
    assert sum(p.numel() for p in student.parameters()) == pytest.approx(98e6, rel=0.03)
