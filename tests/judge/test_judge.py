from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from roboalign import checkpoint
from roboalign.bench.agreement import agreement, score_all, sections
from roboalign.bench.build import Builder, all_limits, build, recorded_states
from roboalign.bench.dataset import PairDataset
from roboalign.bench.pairs import Bench
from roboalign.bench.spec import BenchSpec
from roboalign.hardware.spec import DeviceSpec
from roboalign.judge.build import build_judge
from roboalign.judge.lit import JudgeModule
from roboalign.judge.measure import measure
from roboalign.judge.model import Judge, load_judge, save_judge
from roboalign.judge.spec import JudgeSpec
from roboalign.reward.dimensions import normalise
from roboalign.reward.encoder import scoring_loss
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus
from roboalign.training import fit


def judge_spec(name: str = "smoke", **training):
    value = yaml.safe_load(Path(f"specs/judge/{name}.yaml").read_text())
    value["training"] |= training
    return TypeAdapter(JudgeSpec).validate_python(value)


@pytest.fixture(scope="module")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


@pytest.fixture(scope="module")
def bench(toy_episodes, six) -> Bench:
    corpus = Corpus.of(toy_episodes)
    states = recorded_states(corpus)
    spec = BenchSpec.model_validate({"pairs": 40, "shortest": 5, "longest": 12})
    builder = Builder(corpus, spec, six, states, all_limits(corpus.infos, states, six))
    return Bench(build(builder, {}, Path("unused"), 10.0), corpus)


@pytest.fixture(scope="module")
def judge(bench, six) -> Judge:
    torch.manual_seed(0)
    return build_judge(judge_spec(), six, [pair.instruction for pair in bench.pairs]).eval()


def dataset(bench, judge, split="train") -> PairDataset:
    rows = bench.where(split=split)
    return PairDataset(bench, rows, normalise(bench.scores[rows], judge.reward), judge.vocabulary)


def clips(count: int = 3, frames: int = 7) -> torch.Tensor:
    return torch.rand(count, frames, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_scores_are_raw_and_repeat(judge, six):
    texts = ["push the block", "push the yellow block", "never heard words"]
    scores = judge(clips(), texts)
    assert scores.shape == (3, 6)
    assert (scores >= 0).all()
    assert (scores <= torch.tensor(six.maxima)).all()
    torch.manual_seed(99)
    assert torch.equal(scores, judge(clips(), texts))


def test_a_clips_scores_depend_on_nothing_else_in_the_batch(judge):
    texts = ["push the block", "push", "move the block to the red mark"]
    together = judge(clips(), texts)
    alone = torch.cat([judge(clips()[i : i + 1], texts[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_samples_differ_and_one_sample_is_the_plain_pass(judge):
    samples = judge.sample(clips(), ["push"] * 3, 4)
    assert samples.shape == (4, 3, 6)
    assert samples.std(0).max() > 0
    assert torch.equal(judge.sample(clips(), ["push"] * 3, 1), judge.sample(clips(), ["push"] * 3, 1))


def test_bytes_and_floats_score_alike(judge):
    videos = (clips() * 255).round().byte()
    assert torch.allclose(judge(videos, ["push"] * 3), judge(videos.float() / 255, ["push"] * 3), atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_clips_of_any_length(judge, frames):
    assert torch.isfinite(judge(clips(1, frames), ["push"])).all()


def test_heads_follow_the_rewards_dimensions(six):
    five = six.model_copy(update={"dimensions": six.dimensions[:5]})
    assert build_judge(judge_spec(), five, ["push"]).eval()(clips(1), ["push"]).shape == (1, 5)


def test_a_vlm_judge_is_checked_but_not_built(six):
    spec = judge_spec("paper")
    assert (spec.temperature, spec.samples) == (0.6, 5)
    with pytest.raises(ValueError, match="no trainer for a vision-language judge"):
        build_judge(spec, six, [])


def test_the_dataset_pads_and_scores_come_back_in_order(bench, judge):
    data = dataset(bench, judge)
    lengths = {int(item["length"]) for item in (data[i] for i in range(len(data)))}
    assert len(lengths) > 1
    assert {item["video"].shape[0] for item in (data[i] for i in range(len(data)))} == {12}
    scores = score_all(lambda videos, texts: judge.sample(videos, texts, 2), data, 4)
    assert scores.shape == (2, len(data), 6)
    for index in (0, 5, len(data) - 1):
        own = judge.sample(data.video(index).unsqueeze(0), [bench.pairs[data.rows[index]].instruction], 2)
        assert scores[:, index] == pytest.approx(own[:, 0].numpy(), abs=1e-4)
    with pytest.raises(ValueError, match="targets"):
        PairDataset(bench, [0, 1], np.zeros((3, 6)), judge.vocabulary)


def test_padding_is_not_seen(bench, judge):
    data = dataset(bench, judge)
    short = min(range(len(data)), key=lambda i: int(data[i]["length"]))
    item = {key: value.unsqueeze(0) for key, value in data[short].items()}
    noise = item["video"].clone()
    noise[:, int(item["length"]) :] = 200
    indices = torch.zeros(1, judge.spec.encoder.frames, dtype=torch.long)
    with torch.no_grad():
        plain, noisy = (judge.regress(v, item["length"], indices, item["words"])[0] for v in (item["video"], noise))
    assert torch.equal(plain, noisy)


def train(bench, judge, folder, steps):
    fit(
        JudgeModule(judge), dataset(bench, judge), judge.spec.training.model_copy(update={"steps": steps}),
        DeviceSpec(threads=1), label="judge", scratch=folder, curves=folder / "curve.tsv",
    )  # fmt: skip


def test_training_brings_the_loss_down(bench, six, tmp_path):
    torch.manual_seed(0)
    spec = judge_spec(steps=25, learning_rate=0.003, log_every=5)
    judge = build_judge(spec, six, [pair.instruction for pair in bench.pairs])
    train(bench, judge, tmp_path, 25)
    losses = [float(line.split("\t")[1]) for line in (tmp_path / "curve.tsv").read_text().splitlines()[1:]]
    assert losses[-1] < losses[0]


def test_a_killed_run_ends_with_the_same_weights(bench, six, tmp_path):
    def fresh() -> Judge:
        torch.manual_seed(0)
        return build_judge(judge_spec(), six, [pair.instruction for pair in bench.pairs])

    class KilledError(Exception):
        pass

    whole, broken, resumed = fresh(), fresh(), fresh()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    train(bench, whole, tmp_path / "a", 6)
    original = JudgeModule.training_step

    def until_four(self, batch, index):
        if self.step == 4:
            raise KilledError
        return original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JudgeModule, "training_step", until_four)
        with pytest.raises(KilledError):
            train(bench, broken, tmp_path / "b", 6)
    train(bench, resumed, tmp_path / "b", 6)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_saved_judge_scores_the_same(judge, tmp_path):
    save_judge(tmp_path / "model.safetensors", judge, "hash")
    again = load_judge(tmp_path / "model.safetensors")
    assert torch.equal(judge(clips(), ["push"] * 3), again(clips(), ["push"] * 3))
    assert not again.training
    assert again.vocabulary == judge.vocabulary
    with pytest.raises(checkpoint.CheckpointError, match="no valid"):
        checkpoint.load_spec(tmp_path / "model.safetensors", BenchSpec)


def test_metrics_keep_to_the_contract(bench, judge):
    rows = bench.where(split="train")
    scores = np.stack([bench.scores[rows], bench.scores[rows]])
    metrics = measure(judge, bench, rows, scores, bench.scores[rows].mean(0), ("shuffle",))
    assert metrics["total"]["mae"] == 0 < metrics["total"]["constant_mae"]
    assert metrics["total"]["spearman"] == pytest.approx(1)
    assert metrics["total"]["kendall"] == pytest.approx(1)
    assert metrics["manipulation_success"]["qwk"] == pytest.approx(1)
    assert metrics["stability_sd"] == 0
    held_out = sum(bench.pairs[row].degradation == "shuffle" for row in rows)
    assert metrics["held_out_degradations"]["n"] == held_out > 0
    assert metrics["n"] == len(rows) - held_out


def test_sections_part_the_pairs(bench):
    generated = replace(bench.pairs[0], origin="generated", generated=0)
    mixed = Bench.__new__(Bench)
    mixed.pairs = (generated, *bench.pairs[1:])
    parts = sections(mixed, range(len(bench)), ("freeze",))
    assert sum(mask.astype(int) for mask in parts.values()).tolist() == [1] * len(bench)
    assert parts["generated"].sum() == 1


def test_correlations_of_constants_are_left_out(six):
    labels = np.tile(np.array(six.maxima), (5, 1))
    result = agreement(labels - 0.1, labels, labels[0], six)
    assert "spearman" not in result["total"]
    assert result["total"]["mae"] == pytest.approx(0.6)


def test_the_loss_weighs_dimensions():
    shares, targets = torch.tensor([[0.0, 0.5]]), torch.tensor([[1.0, 0.5]])
    only_second = scoring_loss(shares, targets, torch.tensor([0.0, 1.0]), 0.1)
    both = scoring_loss(shares, targets, torch.tensor([1.0, 1.0]), 0.1)
    assert only_second == 0
    assert both == pytest.approx((1.0 - 0.05) / 2)


@pytest.mark.parametrize("path", sorted(Path("specs/judge").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path):
    TypeAdapter(JudgeSpec).validate_python(yaml.safe_load(path.read_text()))


def test_heads_must_divide_the_width():
    value = yaml.safe_load(Path("specs/judge/smoke.yaml").read_text())
    value["encoder"]["heads"] = 5
    with pytest.raises(ValidationError, match="does not divide"):
        TypeAdapter(JudgeSpec).validate_python(value)
