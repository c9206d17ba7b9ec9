from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from roboalign import checkpoint
from roboalign.bench.calibration import agreement, sections
from roboalign.bench.dataset import ObservedSets, SetPlan, observe_pairs, read_video, score_pairs
from roboalign.bench.pairs import Bench
from roboalign.bench.spec import BenchSpec
from roboalign.hardware.spec import DeviceSpec
from roboalign.judge.measure import copy_context_attack, measure, measure_groups, uncertainty_calibration
from roboalign.judge.model import RegressionJudge, load_regression_judge
from roboalign.judge.spec import JudgeSpec
from roboalign.pipeline.judges import load_judge, load_scores, save_scores
from roboalign.reward.dimensions import normalise
from roboalign.reward.lit import RewardModule
from roboalign.reward.spec import RewardSpec
from roboalign.training import fit
from tests.gradients import GradientRecorder, assert_equal_gradients, assert_equal_weights
from tests.reward.reward_fakes import TEXTS, known_clips, smoke_spec, toy_bench, toy_judge


@pytest.fixture(scope="module")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


@pytest.fixture(scope="module")
def bench(toy_episodes, six, tmp_path_factory) -> Bench:
    return toy_bench(toy_episodes, six, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def fresh(toy_episodes, six) -> Callable[..., RegressionJudge]:
    return lambda **changes: toy_judge(toy_episodes[:12], six, **changes)


@pytest.fixture(scope="module")
def judge(fresh) -> RegressionJudge:
    return fresh().eval()


def train(bench, judge, folder, micro_batches=1, callbacks=(), **changes):
    """Train for a few steps on the train split, groups among its sets."""
    rows, spec = bench.filter(split="train"), judge.train().spec
    training = spec.training.model_copy(update=changes)
    words = judge.vocabulary.encode([bench.pairs[row].instruction for row in rows])
    plan = SetPlan.of(bench, rows, spec.set_size, spec.group_share)
    targets = normalise(bench.labels[rows], judge.reward)
    data = ObservedSets(observe_pairs(judge, bench, rows), words, targets, plan, 0, partial(read_video, bench, rows))
    folder.mkdir(exist_ok=True)
    fit(
        RewardModule(judge, spec.loss, training), data, training, DeviceSpec(threads=1), label="judge",
        scratch=folder, curves=folder / "curve.tsv", micro_batches=micro_batches, callbacks=callbacks,
    )  # fmt: skip


def test_members_disagree_and_the_score_is_their_mean(judge, toy_episodes):
    videos, actions = known_clips(toy_episodes[:3])
    samples = judge.sample(videos, TEXTS, actions)
    assert samples.shape == (judge.spec.members, 3, 2, 6)
    assert samples.std(0).max() > 0
    assert torch.equal(samples.mean(0), judge(videos, TEXTS, actions))


def test_training_brings_scores_to_the_labels_and_leaves_the_eyes_alone(bench, fresh, tmp_path):
    judge, rows = fresh(), bench.filter(split="train")
    eyes = {name: tensor.clone() for name, tensor in judge.eyes.state_dict().items()}

    def error():
        return np.abs(score_pairs(judge.eval().sample, bench, rows).mean(0) - bench.labels[rows]).mean()

    before = error()
    train(bench, judge, tmp_path / "a", steps=30, batch_size=16, learning_rate=0.003)
    assert error() < 0.8 * before
    assert all(torch.equal(tensor, eyes[name]) for name, tensor in judge.eyes.state_dict().items())


def test_a_killed_run_ends_with_the_same_weights(bench, fresh, tmp_path):
    class KilledError(Exception):
        pass

    whole, broken, resumed = fresh(), fresh(), fresh()
    train(bench, whole, tmp_path / "a", steps=6)
    original = RewardModule.training_step

    def until_four(self, batch, index):
        if self.step == 4:
            raise KilledError
        return original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RewardModule, "training_step", until_four)
        with pytest.raises(KilledError):
            train(bench, broken, tmp_path / "b", steps=6)
    train(bench, resumed, tmp_path / "b", steps=6)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_micro_batches_train_each_member_the_same(bench, fresh, tmp_path):
    whole, divided = (fresh(encoder={"dropout": 0.0, "text": {"hidden_words": 0.0}}) for _ in range(2))
    expected, found = GradientRecorder(), GradientRecorder()
    train(bench, whole, tmp_path / "1", steps=4, batch_size=8, learning_rate=5e-5, callbacks=(expected,))
    train(
        bench, divided, tmp_path / "2", steps=4, batch_size=8, learning_rate=5e-5, micro_batches=2, callbacks=(found,)
    )
    assert_equal_gradients(found, expected)
    assert_equal_weights(divided, whole, expected)


def test_a_saved_judge_scores_the_same(judge, toy_episodes, tmp_path):
    path, (videos, actions) = tmp_path / "model.safetensors", known_clips(toy_episodes[:3])
    judge.save(path, "hash")
    again = load_regression_judge(path)
    assert torch.equal(judge.sample(videos, TEXTS, actions), again.sample(videos, TEXTS, actions))
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    with pytest.raises(checkpoint.CheckpointError, match="no valid"):
        checkpoint.load_spec(path, BenchSpec)


def test_a_file_tells_the_kind_of_its_judge(judge, six, toy_episodes, tmp_path):
    from roboalign.judge.openai_api import OpenAIJudge

    videos, actions = known_clips(toy_episodes[:2])
    judge.save(tmp_path / "a.safetensors", "x")
    again = load_judge(tmp_path / "a.safetensors")
    assert isinstance(again, RegressionJudge)
    assert torch.equal(judge.sample(videos, TEXTS[:2], actions), again.sample(videos, TEXTS[:2], actions))
    spec = TypeAdapter(JudgeSpec).validate_python(yaml.safe_load(Path("specs/judge/api.yaml").read_text()))
    OpenAIJudge(spec, six, root=tmp_path).save(tmp_path / "b.safetensors", "x")
    served = load_judge(tmp_path / "b.safetensors", root=tmp_path)
    assert isinstance(served, OpenAIJudge)
    assert (served.spec, served.reward) == (spec, six)
    (tmp_path / "a.safetensors").write_bytes(b"junk")
    with pytest.raises(checkpoint.CheckpointError):
        load_judge(tmp_path / "a.safetensors")


def test_scores_are_read_back_for_the_bench_that_they_are_of(bench, six, tmp_path):
    path, scores = tmp_path / "scores.safetensors", np.random.default_rng(0).random((len(bench.pairs), 2, 6))
    save_scores(path, scores, "x")
    assert np.array_equal(load_scores(path, bench), scores)
    save_scores(path, scores[1:], "x")
    with pytest.raises(checkpoint.CheckpointError, match=rf"scores of {len(scores) - 1} pairs, the bench has"):
        load_scores(path, bench)


def test_metrics_keep_to_the_contract(bench, six):
    rows = [row for row in bench.filter(split="train") if bench.pairs[row].origin != "group"]
    labels = bench.labels[rows]
    metrics = measure(np.stack([labels, labels]), bench, rows, labels.mean(0), ("shuffle",), six)
    for found in (metrics, metrics["faithful"]):
        assert found["total"]["mae"] == 0 < found["total"]["constant_mae"]
        assert found["total"]["spearman"] == pytest.approx(1)
        assert found["total"]["kendall"] == pytest.approx(1)
        assert found["manipulation_success"]["qwk"] == pytest.approx(1)
    assert metrics["stability_sd"] == 0
    held_out = sum(bench.pairs[row].degradation == "shuffle" for row in rows)
    assert metrics["held_out_degradations"]["n"] == held_out > 0
    assert metrics["n"] == len(rows) - held_out


def test_groups_are_measured_by_variant_and_length(bench, six):
    rows = [row for group in bench.groups(split="test") for row in group]
    rng = np.random.default_rng(0)
    reference = rng.random((len(rows), 2, 6))
    scores = reference.copy()
    scores[:, 1] = -reference[:, 1]
    found = measure_groups(scores, bench, rows, reference, six)
    assert set(found) == {"absolute", "faithful"}
    assert set(found["absolute"]) == {"4"}
    assert found["absolute"]["4"]["groups"] == 2
    assert found["absolute"]["4"]["correlation"]["mean"] == pytest.approx(1)
    assert found["faithful"]["4"]["correlation"]["mean"] == pytest.approx(-1)


def test_uncertainty_is_calibrated_if_it_grows_with_the_error():
    labels, errors = np.zeros(5), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    # The mean errs by `errors`, the spread grows or falls with it.
    assert uncertainty_calibration(np.stack([errors - errors, errors + errors]), labels) == pytest.approx(1)
    assert uncertainty_calibration(np.stack([errors - (1 - errors), errors + (1 - errors)]), labels) == pytest.approx(
        -1
    )
    assert uncertainty_calibration(np.stack([labels, labels]), labels) is None


def test_sections_part_the_pairs(bench):
    rows = bench.filter(split="train")
    parts = sections(bench, rows, ("freeze",))
    assert sum(mask.astype(int) for mask in parts.values()).tolist() == [1] * len(rows)
    assert parts["generated"].sum() == 12, "four groups of three"
    mixed = Bench.__new__(Bench)
    mixed.pairs = (replace(bench.pairs[0], origin="generated", generated=0), *bench.pairs[1:])
    assert sections(mixed, [0], ())["generated"].tolist() == [True]


def test_correlations_of_constants_are_left_out(six):
    labels = np.tile(np.array(six.max_scores), (5, 1))
    result = agreement(labels - 0.1, labels, labels[0], six)
    assert "spearman" not in result["total"]
    assert result["total"]["mae"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    "path",
    [*sorted(Path("specs/judge").glob("*.yaml")), *sorted(Path("specs/held_out").glob("*.yaml"))],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_shipped_specs_are_valid(path):
    TypeAdapter(JudgeSpec).validate_python(yaml.safe_load(path.read_text()))


def test_heads_must_divide_the_width():
    with pytest.raises(ValidationError, match="must be divisible by heads"):
        TypeAdapter(JudgeSpec).validate_python(smoke_spec("judge", encoder={"heads": 5}))


def test_a_judge_that_sees_no_video_is_refused():
    with pytest.raises(ValidationError, match="add video"):
        TypeAdapter(JudgeSpec).validate_python(smoke_spec("judge", encoder={"inputs": ["text"]}))


def test_a_batch_has_to_divide_over_the_members():
    with pytest.raises(ValidationError, match=r"4 sets must be divisible by members \(3\)"):
        TypeAdapter(JudgeSpec).validate_python(smoke_spec("judge", members=3))


def test_a_scorer_that_rewards_stillness_is_told_as_fooled(bench):
    rows = [row for group in bench.groups(split="test") for row in group]

    def by_motion(sign: float) -> Callable[..., torch.Tensor]:
        def score(videos: torch.Tensor, texts: object, actions: torch.Tensor) -> torch.Tensor:
            motion = videos.float().diff(dim=1).abs().mean((1, 2, 3, 4))
            return (5 + sign * motion).view(1, -1, 1, 1).expand(1, -1, 2, 6)

        return score

    still, moving = (score_pairs(by_motion(sign), bench, rows).mean(0) for sign in (-1, 1))
    assert copy_context_attack(by_motion(-1), bench, rows, still)["faithful"]["fooled"] == 1
    result = copy_context_attack(by_motion(1), bench, rows, moving)["absolute"]
    assert result["fooled"] == 0
    assert result["frozen"]["mean"] == pytest.approx(30)
    assert result["rollouts"]["mean"] > 30
