import pytest
import torch

from roboalign.rl.advantage import group_advantage, rank_advantage, reward_to_go, signal_to_noise
from roboalign.rl.best_of_n import pick_best


def test_advantage_by_hand() -> None:
    # Mean 2, standard deviation of the population sqrt((1 + 0 + 1) / 3).
    assert group_advantage(torch.tensor([[1.0, 2.0, 3.0]]))[0].tolist() == pytest.approx([-1.2247449, 0, 1.2247449])


def test_advantage_does_not_see_scale_or_offset_or_other_groups() -> None:
    rewards = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    shifted = rewards * torch.tensor([[1.0], [100.0], [0.01]]) + torch.tensor([[0.0], [5.0], [-3.0]])
    assert torch.allclose(group_advantage(rewards), group_advantage(shifted), atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.3, -1e4])
def test_a_constant_group_has_no_advantage(value: float) -> None:
    rewards = torch.full((2, 4), value)
    rewards[1] += torch.tensor([0.0, 1.0, 2.0, 3.0])
    advantage = group_advantage(rewards)
    assert advantage[0].tolist() == [0.0] * 4
    assert advantage[1].abs().sum() > 0
    assert torch.isfinite(advantage).all()


def test_rounding_within_a_group_is_no_preference() -> None:
    rewards = torch.tensor([[0.3, 0.3 + 3e-8, 0.3 - 3e-8]])
    assert group_advantage(rewards).tolist() == [[0.0] * 3]


def test_a_deviation_below_the_least_one_counts_as_that() -> None:
    rewards = torch.tensor([[1.0, 1.02], [1.0, 3.0]])
    assert group_advantage(rewards, 0.1).tolist() == [pytest.approx([-0.1, 0.1], abs=1e-5), pytest.approx([-1.0, 1.0])]
    assert group_advantage(rewards)[0].tolist() == pytest.approx([-1.0, 1.0])


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([5.0, -2.0, 1e6], [0, -1, 1]),  # outliers count as any best one
        ([1.0, 2.0, 3.0, 4.0, 5.0], [-1, -0.5, 0, 0.5, 1]),
        ([1.0, 1.0, 7.0], [-0.5, -0.5, 1]),  # ties share the mean rank
        ([3.0, 3.0, 3.0], [0, 0, 0]),
        ([3.0], [-1]),
    ],
)
def test_ranks_are_evenly_spaced(rewards: list[float], expected: list[float]) -> None:
    if len(rewards) > 1:
        assert rank_advantage(torch.tensor([rewards]))[0].tolist() == pytest.approx(expected)
    both = rank_advantage(torch.tensor([rewards, rewards[::-1]]))
    assert both[1].flip(0).tolist() == both[0].tolist(), "groups do not see each other"


def test_reward_to_go_credits_a_frame_with_what_follows_it() -> None:
    assert reward_to_go(torch.tensor([[3.0, 0.0, 6.0], [0.0, 3.0, 0.0]])).tolist() == [[3, 2, 2], [1, 1, 0]]


def test_signal_to_noise_is_the_cosine_between_gradients() -> None:
    up, right = torch.tensor([0.0, 2.0]), torch.tensor([3.0, 0.0])
    assert signal_to_noise([up, 5 * up]).tolist() == pytest.approx([1])
    assert signal_to_noise([up, -up]).tolist() == pytest.approx([-1])
    assert signal_to_noise([up, right]).tolist() == pytest.approx([0])
    assert len(signal_to_noise([up, right, up, -right])) == 6
    assert signal_to_noise([up, torch.zeros(2)]).tolist() == [0], "no gradient is no signal"


@pytest.mark.parametrize(
    ("rewards", "keep", "expected"),
    [
        ([1.0, 3.0, 2.0], 1, [False, True, False]),
        ([1.0, 3.0, 2.0], 2, [False, True, True]),
        ([2.0, 3.0, 3.0], 1, [False, True, False]),  # the first of equals
        ([2.0, 2.0, 2.0], 1, [False, False, False]),  # a constant group prefers nothing
    ],
)
def test_the_best_of_a_group_are_kept(rewards: list[float], keep: int, expected: list[bool]) -> None:
    groups = torch.tensor([rewards, [0.0, 0.0, 9.0]])
    assert pick_best(groups, keep)[0].tolist() == expected
