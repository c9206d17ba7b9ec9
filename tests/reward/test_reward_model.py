"""What holds of every reward model, judge and student."""

import copy

import pytest
import torch

from roboalign import checkpoint
from roboalign.reward.losses import scoring_loss
from roboalign.reward.model import RewardModel, load_reward_model, save_reward_model
from roboalign.reward.spec import RewardSpec
from roboalign.types import Episode
from tests.reward.reward_fakes import TEXTS, known_clips, toy_judge, toy_student, unknown_clips


@pytest.fixture(scope="module", params=["judge", "student"])
def model(request: pytest.FixtureRequest, toy_episodes: list[Episode], six: RewardSpec) -> RewardModel:
    make = toy_judge if request.param == "judge" else toy_student
    return make(toy_episodes[:12], six).eval()


def test_scores_are_raw_and_repeat(model, six, toy_episodes):
    videos, actions = known_clips(toy_episodes[:3])
    scores = model(videos, TEXTS, actions)
    assert scores.shape == (3, 2, 6)
    assert ((scores >= 0) & (scores <= torch.tensor(six.max_scores))).all()
    assert not scores.requires_grad
    torch.manual_seed(99)
    assert torch.equal(scores, model(videos, TEXTS, actions))
    assert torch.equal(scores, model.sample(videos, TEXTS, actions).mean(0))


def test_scores_are_clipped_to_their_ranges(model, six, toy_episodes):
    videos, actions = known_clips(toy_episodes[:3])
    high = copy.deepcopy(model)
    for member in high.members:
        member.head[-1].bias.data += 50
    assert torch.equal(high(videos, TEXTS, actions), torch.tensor(six.max_scores).expand(3, 2, 6))


def test_a_clips_scores_depend_on_nothing_else_in_the_batch(model, toy_episodes):
    videos, actions = known_clips(toy_episodes[:2])
    videos = torch.cat([videos[:1], unknown_clips(1), videos[1:]])
    actions = torch.cat([actions[:1], torch.ones_like(actions[:1]), actions[1:]])
    together = model.sample(videos, TEXTS, actions)
    alone = torch.cat([model.sample(videos[i : i + 1], TEXTS[i : i + 1], actions[i : i + 1]) for i in range(3)], 1)
    assert torch.allclose(together, alone, atol=1e-4)


def test_bytes_and_floats_score_alike(model, toy_episodes):
    videos, actions = known_clips(toy_episodes[:3])
    assert torch.allclose(model(videos, TEXTS, actions), model(videos.float() / 255, TEXTS, actions), atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_clips_of_any_length_of_known_scenes(model, toy_episodes, frames):
    videos, actions = known_clips(toy_episodes[:1], frames)
    assert actions.shape[1] == frames - 1
    assert torch.isfinite(model(videos, TEXTS[:1], actions)).all()
    assert torch.isfinite(model(videos, TEXTS[:1])).all()


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_clips_of_any_length_of_unknown_scenes(model, frames):
    videos = unknown_clips(2, frames)
    assert model.identify(videos[:, 0].float() / 255).tolist() == [-1, -1]
    assert torch.isfinite(model(videos, TEXTS[:2], torch.zeros(2, frames - 1, 4))).all()


def test_frames_of_another_size_are_an_unknown_scene(model):
    videos = unknown_clips(2)[..., :20, :24]
    assert torch.isfinite(model(videos, TEXTS[:2])).all()


def test_eyes_that_know_no_scene_score_too(six):
    for make in (toy_judge, toy_student):
        assert torch.isfinite(make([], six).eval()(unknown_clips(2), TEXTS[:2], torch.zeros(2, 6, 4))).all()


def test_actions_and_what_they_should_lead_to_count(model, toy_episodes):
    videos, actions = known_clips(toy_episodes[:3])
    assert not torch.allclose(model(videos, TEXTS, actions), model(videos, TEXTS, -actions), atol=1e-6)


@pytest.mark.parametrize("make", [toy_judge, toy_student])
def test_without_the_input_actions_are_ignored(make, six, toy_episodes):
    model = make(toy_episodes[:12], six, encoder={"inputs": ["text", "video"]}).eval()
    videos, actions = known_clips(toy_episodes[:3])
    plain = model(videos, TEXTS)
    assert torch.equal(plain, model(videos, TEXTS, actions))
    assert torch.equal(plain, model(videos, TEXTS, -actions))


@pytest.mark.parametrize("make", [toy_judge, toy_student])
def test_without_the_input_the_instruction_is_ignored(make, six, toy_episodes):
    model = make(toy_episodes[:12], six, encoder={"inputs": ["video", "actions"]}).eval()
    videos, actions = known_clips(toy_episodes[:2])
    assert torch.equal(model(videos, TEXTS[:2], actions), model(videos, TEXTS[1:], actions))


def test_actions_of_another_width_or_number_are_named(model, toy_episodes):
    videos, actions = known_clips(toy_episodes[:1])
    for wrong in (actions[..., :3], actions[:, 1:]):
        with pytest.raises(ValueError, match=r"clips of 7 frames take actions of shape \(6, 4\)"):
            model(videos, TEXTS[:1], wrong)


def test_gradients_reach_the_pixels_and_the_scores_are_the_same(model, toy_episodes):
    videos, actions = known_clips(toy_episodes[:2])
    pixels = (videos.float() / 255).requires_grad_()
    scores = model.differentiable(pixels, TEXTS[:2], actions)
    assert torch.allclose(scores.detach(), model(videos, TEXTS[:2], actions), atol=1e-5)
    scores.sum().backward()
    assert pixels.grad is not None
    assert torch.isfinite(pixels.grad).all()
    assert (pixels.grad.abs().sum((1, 2, 3, 4)) > 0).all()


def test_heads_follow_the_rewards_dimensions(six, toy_episodes):
    five = six.model_copy(update={"dimensions": dict(list(six.dimensions.items())[:5])})
    for make in (toy_judge, toy_student):
        assert make(toy_episodes[:12], five).eval()(unknown_clips(1), TEXTS[:1]).shape == (1, 2, 5)


def test_a_file_says_what_the_model_is_built_from(model, tmp_path):
    save_reward_model(tmp_path / "model.safetensors", model, model.spec, "x")
    tensors, metadata = checkpoint.load(tmp_path / "model.safetensors")
    found = load_reward_model(tmp_path / "model.safetensors", type(model.spec), type(model))
    assert (found.reward, found.vocabulary, found.action_width) == (model.reward, model.vocabulary, 4)
    assert found.eyes.tasks == model.eyes.tasks
    assert not found.training
    assert tensors.keys() == model.state_dict().keys() == found.state_dict().keys()
    del metadata["vocabulary"]
    checkpoint.save(tmp_path / "model.safetensors", tensors, **metadata)
    with pytest.raises(checkpoint.CheckpointError, match="has no 'vocabulary'"):
        load_reward_model(tmp_path / "model.safetensors", type(model.spec), type(model))


@pytest.mark.parametrize("make", [toy_judge, toy_student])
def test_scene_dropout_hides_what_is_perceived_in_training_alone(make, six, toy_episodes):
    model = make(toy_episodes[:12], six, encoder={"scene_dropout": 1.0, "dropout": 0.0, "text": {"hidden_words": 0.0}})
    model.eval()
    videos, actions = known_clips(toy_episodes[:2])
    seen = model.observe(videos, actions)
    blind = type(seen)(torch.zeros_like(seen.states), torch.cat([seen.rest[..., :-1], 0 * seen.rest[..., -1:]], -1),
                       seen.valid, seen.motion)  # fmt: skip
    words = model.vocabulary.encode(TEXTS[:2])
    whole, hidden = model.predict(seen, words, 0), model.predict(blind, words, 0)
    assert not torch.allclose(whole, hidden, atol=1e-6)
    model.members.train()
    assert torch.allclose(model.predict(seen, words, 0), hidden, atol=1e-5)


def loss(predicted, targets, weights=(1.0, 1.0), grouped=(0.0,), within=0.0, faithful=1.0):
    """The scoring loss of one set, by clip: absolute and faithful scores of two dimensions."""
    tensors = torch.tensor([predicted]), torch.tensor([targets]), torch.tensor(weights), torch.tensor(grouped)
    return [float(value) for value in scoring_loss(*tensors, 0.1, within, faithful)]


def test_the_loss_weighs_dimensions_and_variants():
    predicted, targets = [[[0.0, 0.5], [0.5, 0.5]]], [[[1.0, 0.5], [0.5, 0.5]]]
    error = 1.0 - 0.05  # Huber beyond delta, over delta
    assert loss(predicted, targets)[0] == pytest.approx(error / 4)
    assert loss(predicted, targets, weights=(0.0, 1.0))[0] == 0
    assert loss(predicted, targets, faithful=0.0)[0] == pytest.approx(error / 2)
    assert loss(predicted, targets, faithful=3.0)[0] == pytest.approx(error / 8)


def test_the_loss_within_a_group_forgives_what_all_its_clips_share():
    full, half = [[1.0, 1.0], [1.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]
    for grouped in ((0.0,), (1.0,)):
        shifted = loss([half, half], [full, full], grouped=grouped, within=5.0)
        assert shifted == pytest.approx([0.45, 0])
    apart, inner = loss([half, full], [full, half], grouped=(1.0,), within=2.0)
    assert inner == pytest.approx(0.45)
    assert apart == pytest.approx(0.45 + 2 * 0.45)
    assert loss([half, full], [full, half], within=2.0) == pytest.approx([0.45, 0]), "single clips are no group"
