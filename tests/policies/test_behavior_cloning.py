"""Behaviour cloning on toy episodes: it learns, resumes, saves, and acts in the source's units."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from roboalign.distributed import BatchShard
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv
from roboalign.policies.behavior_cloning import (
    BehaviorCloningNetwork,
    BehaviorCloningPolicy,
    load_network,
    save_network,
)
from roboalign.policies.demonstrations import Demonstrations, select_demonstrations
from roboalign.policies.lit import BehaviorCloningModule, PerceivedCloningModule, shift
from roboalign.policies.perceived_cloning import PerceivedCloningNetwork, PerceivedDemonstrations
from roboalign.policies.policy import Robot
from roboalign.policies.spec import BehaviorCloningSpec, ConvolutionalCloningModelSpec, PerceivedCloningModelSpec
from roboalign.reward.text import Vocabulary
from roboalign.store import Corpus
from roboalign.training import fit
from roboalign.types import Episode
from tests.gradients import GradientRecorder, assert_equal_gradients, assert_equal_weights
from tests.reward.reward_fakes import toy_eyes

DEVICE = DeviceSpec(threads=1)


def model_spec(**training: Any) -> ConvolutionalCloningModelSpec:
    fields = {"steps": 24, "batch_size": 8, "learning_rate": 0.01, "warmup_steps": 4, "log_every": 1} | training
    return ConvolutionalCloningModelSpec.model_validate(
        {"kind": "convolutional", "widths": [8, 8], "hidden_size": 16, "training": fields}
    )


def network(spec: ConvolutionalCloningModelSpec) -> BehaviorCloningNetwork:
    torch.manual_seed(0)
    return BehaviorCloningNetwork(spec, Vocabulary.of(["push the yellow block to the red goal"], spec.words), 4)


@pytest.fixture(scope="module")
def corpus(toy_episodes: list[Episode]) -> Corpus:
    return Corpus.of(toy_episodes)


def train(
    spec: ConvolutionalCloningModelSpec, corpus: Corpus, folder: Path, *callbacks: Callback, micro_batches: int = 1
) -> BehaviorCloningNetwork:
    made = network(spec)
    data = Demonstrations(corpus, select_demonstrations(corpus.infos, 4), made.vocabulary)
    folder.mkdir(exist_ok=True)
    fit(
        BehaviorCloningModule(made), data, spec.training, DEVICE, label="cloning", scratch=folder,
        curves=folder / "curve.tsv", callbacks=callbacks, micro_batches=micro_batches,
    )  # fmt: skip
    return made


def test_it_learns_the_demonstrations(corpus: Corpus, tmp_path: Path) -> None:
    train(model_spec(), corpus, tmp_path)
    losses = [float(row["action"]) for row in read_tsv(tmp_path / "curve.tsv")]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_an_interrupted_training_ends_with_the_same_weights(corpus: Corpus, tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            if module.step == 4:
                raise RuntimeError("killed")

    spec = model_spec(steps=6, batch_size=4, checkpoint_every=2)
    whole = train(spec, corpus, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        train(spec, corpus, tmp_path / "parts", Interrupt())
    parts = train(spec, corpus, tmp_path / "parts")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_micro_batches_train_the_same(corpus: Corpus, tmp_path: Path) -> None:
    spec, expected, found = model_spec(steps=3, learning_rate=1e-3), GradientRecorder(), GradientRecorder()
    whole = train(spec, corpus, tmp_path / "1", expected)
    divided = train(spec, corpus, tmp_path / "4", found, micro_batches=4)
    assert_equal_gradients(found, expected)
    assert_equal_weights(divided, whole, expected)
    for row, other in zip(*(read_tsv(tmp_path / each / "curve.tsv") for each in ("1", "4")), strict=True):
        assert {k: float(v) for k, v in row.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-4)


def test_only_successful_episodes_of_experts_are_demonstrations(corpus: Corpus) -> None:
    numbers = select_demonstrations(corpus.infos, 100)
    assert numbers
    for number in numbers:
        assert corpus.infos[number].policy == "expert"
        assert corpus.infos[number].success
    assert len(select_demonstrations(corpus.infos, 1)) == 1


def test_a_network_is_stored_and_acts_within_the_range(corpus: Corpus, tmp_path: Path) -> None:
    made = network(model_spec()).eval()
    save_network(tmp_path / "model.safetensors", made, "hash")
    loaded = load_network(tmp_path / "model.safetensors")
    robot = Robot("toy", corpus.ranges["toy"])
    images = corpus.frames(0)[:3]
    actions = []
    for each, noise in ((made, 0.0), (loaded, 0.0), (loaded, 0.5)):
        spec = BehaviorCloningSpec(kind="behavior_cloning", model=each.spec, noise=noise)
        policy = BehaviorCloningPolicy(spec, each, robot)
        policy.reset(["push the yellow block to the red goal"] * 3, [0, 1, 2])
        actions.append(policy.act(images))
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[1], actions[2])
    low, high = np.array(robot.actions.low, np.float32), np.array(robot.actions.high, np.float32)
    for action in actions:
        assert action.dtype == np.float32
        assert (action >= low).all()
        assert (action <= high).all()


def test_a_copy_does_not_depend_on_the_others(corpus: Corpus) -> None:
    made = network(model_spec()).eval()
    spec = BehaviorCloningSpec(kind="behavior_cloning", model=made.spec, noise=0.3)
    robot = Robot("toy", corpus.ranges["toy"])
    images, texts = corpus.frames(0)[:3], ["push the block", "move", "push the yellow block"]
    policies = [BehaviorCloningPolicy(spec, made, robot) for _ in range(2)]
    policies[0].reset(texts, [5, 6, 7])
    policies[1].reset(texts[1:2], [6])
    np.testing.assert_allclose(policies[0].act(images)[1], policies[1].act(images[1:2])[0], atol=1e-5)


def test_the_instruction_of_another_task_is_given_if_asked_for(corpus: Corpus) -> None:
    made = network(model_spec()).eval()
    robot, text, other = Robot("toy", corpus.ranges["toy"]), "push the yellow block", "to the red goal"
    answers = {}
    for swap, given in ((True, text), (False, other), (False, text)):
        spec = BehaviorCloningSpec(kind="behavior_cloning", model=made.spec, swap_instructions=swap)
        policy = BehaviorCloningPolicy(spec, made, robot, {text: other})
        policy.reset([given], [0])
        answers[swap, given] = policy.act(corpus.frames(0)[:1])
    np.testing.assert_array_equal(answers[True, text], answers[False, other])
    assert not np.array_equal(answers[True, text], answers[False, text])


def test_shifted_points_follow_the_shifted_pixels() -> None:
    images = torch.zeros(8, 3, 16, 16)
    images[:, :, 6, 9] = 1
    points = torch.tensor([9.5 / 16, 6.5 / 16]).expand(8, 1, 2)
    moved, new_points = shift(images, points, 3, BatchShard(generator=torch.Generator().manual_seed(0)))
    for image, point in zip(moved, new_points[:, 0], strict=True):
        v, u = (int(index) for index in image[0].nonzero()[0])
        torch.testing.assert_close(point, torch.tensor([(u + 0.5) / 16, (v + 0.5) / 16]))
    assert len({tuple(image[0].nonzero()[0].tolist()) for image in moved}) > 1


def test_a_head_on_a_frozen_probe_learns_and_is_stored(toy_episodes: list[Episode], tmp_path: Path) -> None:
    corpus, eyes = Corpus.of(toy_episodes), toy_eyes(toy_episodes)
    spec = PerceivedCloningModelSpec.model_validate(
        {"kind": "perceived", "hidden_size": 16, "training": {"steps": 30, "batch_size": 16, "learning_rate": 0.01,
                                                              "warmup_steps": 4, "log_every": 1}}
    )  # fmt: skip
    torch.manual_seed(0)
    made = PerceivedCloningNetwork(spec, Vocabulary.of([toy_episodes[0].instruction], spec.words), 4, eyes)
    before = {name: tensor.clone() for name, tensor in made.probe.state_dict().items()}
    data = PerceivedDemonstrations(corpus, select_demonstrations(corpus.infos, 4), made)
    fit(
        PerceivedCloningModule(made), data, spec.training, DEVICE, label="cloning", scratch=tmp_path,
        curves=tmp_path / "curve.tsv",
    )  # fmt: skip
    losses = [float(row["action"]) for row in read_tsv(tmp_path / "curve.tsv")]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.probe.state_dict().items())
    save_network(tmp_path / "model.safetensors", made.eval(), "hash")
    loaded, answers = load_network(tmp_path / "model.safetensors"), []
    for each in (made, loaded):
        policy = BehaviorCloningPolicy(
            BehaviorCloningSpec(kind="behavior_cloning", model=each.spec), each, Robot("toy", corpus.ranges["toy"])
        )
        policy.reset([toy_episodes[0].instruction], [0])
        answers.append(policy.act(corpus.frames(0)[:1]))
    np.testing.assert_array_equal(answers[0], answers[1])
