import math

import pytest
import torch

from roboalign.rl.advantage import group_advantage
from roboalign.rl.grpo import grpo, low_variance_kl, token_log_probabilities


def test_advantage_by_hand() -> None:
    # Mean 2, standard deviation sqrt(2): -1.414, 0, 1.414 (population: sqrt((1 + 0 + 1) / 3)).
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


def test_the_loss_by_hand() -> None:
    # Ratios 1.5 (clipped to 1.2, A 1), 0.5 (clipped to 0.8, A -1), 1.1 (A 1), 0.9 (A -1).
    ratios = torch.tensor([[1.5], [0.5], [1.1], [0.9]])
    old = torch.zeros(4, 1)
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    parts = grpo(ratios.log(), old, ratios.log(), advantage, clip=0.2, beta=0.5)
    assert float(parts.loss) == pytest.approx(-(1.2 - 0.8 + 1.1 - 0.9) / 4)
    assert float(parts.clip_fraction) == 0.5
    assert float(parts.kl) == pytest.approx(0, abs=1e-7)


def test_the_pessimistic_side_is_not_clipped() -> None:
    # A ratio of 1.5 with A = -1 counts as it is: -1.5, and so does 0.5 with A = 1.
    parts = grpo(torch.tensor([1.5, 0.5]).log(), torch.zeros(2), torch.zeros(2), torch.tensor([-1.0, 1.0]), 0.2, 0.0)
    assert float(parts.loss) == pytest.approx((1.5 - 0.5) / 2)
    assert float(parts.clip_fraction) == 0


def test_a_clipped_token_has_no_gradient() -> None:
    policy = torch.tensor([math.log(1.5), math.log(1.1)], requires_grad=True)
    grpo(policy, torch.zeros(2), policy.detach(), torch.tensor([1.0, 1.0]), 0.2, 0.0).loss.backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([0.0, -1.1 / 2])


def test_the_first_update_is_the_policy_gradient() -> None:
    policy = torch.tensor([-1.0, -2.0], requires_grad=True)
    grpo(policy, policy, policy.detach(), torch.tensor([1.0, -1.0]), 0.2, 0.1).loss.backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([-0.5, 0.5])


def test_the_kl_estimate_is_unbiased_and_never_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, reference = (torch.randn(1, 1, 1, 6, generator=generator).log_softmax(-1) for _ in range(2))
    samples = torch.multinomial(policy.flatten().exp(), 100_000, replacement=True, generator=generator)
    estimates = low_variance_kl(policy.flatten()[samples], reference.flatten()[samples])
    exact = (policy.exp() * (policy - reference)).sum()
    assert float(estimates.min()) >= 0
    assert float(estimates.mean()) == pytest.approx(float(exact), rel=0.03)


def test_log_probabilities_and_entropy_at_a_temperature() -> None:
    logits = torch.tensor([[[[0.0, 2.0]]]])
    log_probability, entropy = token_log_probabilities(logits, torch.tensor([[[1]]]), 2.0)
    chance = math.e / (1 + math.e)
    assert float(log_probability) == pytest.approx(math.log(chance))
    assert float(entropy) == pytest.approx(-chance * math.log(chance) - (1 - chance) * math.log(1 - chance))


def test_a_spread_below_the_least_one_counts_as_that() -> None:
    rewards = torch.tensor([[1.0, 1.02], [1.0, 3.0]])
    assert group_advantage(rewards, 0.1).tolist() == [pytest.approx([-0.1, 0.1], abs=1e-5), pytest.approx([-1.0, 1.0])]
    assert group_advantage(rewards)[0].tolist() == pytest.approx([-1.0, 1.0])
