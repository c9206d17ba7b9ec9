import pytest
import torch

from roboalign.reward.state_features import (
    IMAGE_FEATURES,
    STATE_FEATURES,
    FrameSample,
    action_features,
    image_features,
    sample_frames,
    state_features,
    time_features,
)


def test_short_clips_give_all_their_frames_and_long_ones_even_steps() -> None:
    sample = sample_frames(torch.tensor([3, 5, 9, 17]), 5)
    assert sample.indices.tolist() == [[0, 1, 2, 2, 2], [0, 1, 2, 3, 4], [0, 2, 4, 6, 8], [0, 4, 8, 12, 16]]
    assert sample.valid.tolist() == [[True] * 3 + [False] * 2, *[[True] * 5] * 3]


def test_no_more_frames_are_sampled_than_a_clip_has() -> None:
    assert sample_frames(torch.tensor([2, 3]), 8).indices.tolist() == [[0, 1, 1], [0, 1, 2]]
    assert sample_frames(torch.tensor([1]), 8).indices.tolist() == [[0]]


def test_action_features_sum_since_the_sample_before_and_since_the_beginning() -> None:
    actions = torch.tensor([[[1.0], [2.0], [4.0], [8.0]]])  # lead to frames 1, 2, 3 and 4
    sample = FrameSample(torch.tensor([[0, 2, 4]]), torch.ones(1, 3, dtype=torch.bool))
    assert action_features(actions, sample)[0].tolist() == [[0, 0], [3, 0.25 * 3], [12, 0.25 * 15]]


def test_image_features_of_a_still_clip_are_zero_and_of_a_brighter_one_not() -> None:
    first = torch.rand(1, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5
    still, sample = first.expand(1, 4, 3, 8, 8), sample_frames(torch.tensor([4]), 4)
    assert image_features(still, sample).abs().max() < 1e-5
    brighter = torch.cat([first, first + 0.1], 1)
    found = image_features(brighter, sample_frames(torch.tensor([2]), 2))
    assert found.shape == (1, 2, IMAGE_FEATURES)
    assert found[0, 1].tolist() == pytest.approx([2, 1, 0, 1], abs=1e-4)


def test_time_features_tell_place_length_and_whether_the_scene_is_known() -> None:
    lengths = torch.tensor([1, 5])
    found = time_features(lengths, sample_frames(lengths, 3), torch.tensor([False, True]))
    assert found[0, 0].tolist() == [0, 1 / 32, 0]
    assert found[1].tolist() == [[0, 5 / 32, 1], [0.5, 5 / 32, 1], [1, 5 / 32, 1]]


def features(states: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    batch, frames = states.shape[:2]
    points, peaks = torch.full((batch, frames, 3, 2), 0.5), torch.zeros(batch, frames, 3)
    return state_features(states, points, peaks, torch.ones(batch), expected)


def test_state_features_do_not_depend_on_the_origin_and_carry_gradients() -> None:
    states = torch.rand(2, 4, 14, generator=torch.Generator().manual_seed(0))
    moved = states.clone()
    moved[..., :9] += torch.tensor([0.3, -0.2, 0.1]).repeat(3)
    assert features(states, states).shape == (2, 4, STATE_FEATURES)
    assert torch.allclose(features(states, states), features(moved, moved), atol=1e-5)
    states.requires_grad_()
    features(states, states.detach()).square().sum().backward()
    assert states.grad is not None
    assert (states.grad[..., :9] != 0).all()


def test_what_differs_from_the_expected_states_shows() -> None:
    states = torch.rand(1, 3, 14, generator=torch.Generator().manual_seed(0))
    other = states.clone()
    other[..., 13] -= 0.5
    changed = (features(states, other) - features(states, states))[0, 0].abs() > 1e-6
    assert changed.sum() == 2, "the expected success, and its difference from the perceived one"
    assert features(states, states)[..., -1].abs().max() == 0
