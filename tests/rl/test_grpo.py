import math

import pytest
import torch

from roboalign.rl.grpo import grpo, low_variance_kl, token_log_probabilities


def test_the_loss_by_hand() -> None:
    # Ratios 1.5 (clipped to 1.2, A 1), 0.5 (clipped to 0.8, A -1), 1.1 (A 1), 0.9 (A -1).
    ratios = torch.tensor([[1.5], [0.5], [1.1], [0.9]])
    old = torch.zeros(4, 1)
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    parts = grpo(ratios.log(), old, ratios.log(), advantage, clip_eps=0.2, kl_coef=0.5)
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


def test_the_upper_clipping_may_be_wider() -> None:
    # Ratios 1.25 and 1.4 under A = 1: clipped at 1.28 (DAPO), not at 1.2; ratio 0.75 under A = -1 still at 0.8.
    policy = torch.tensor([1.25, 1.4, 0.75]).log().requires_grad_()
    advantage = torch.tensor([1.0, 1.0, -1.0])
    parts = grpo(policy, torch.zeros(3), policy.detach(), advantage, 0.2, 0.0, clip_eps_high=0.28)
    assert parts.loss.item() == pytest.approx(-(1.25 + 1.28 - 0.8) / 3)
    assert float(parts.clip_fraction) == pytest.approx(2 / 3)
    parts.loss.backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([-1.25 / 3, 0, 0])


def test_advantages_may_be_given_by_frame() -> None:
    policy = torch.zeros(1, 2, 3, requires_grad=True)
    grpo(policy, policy, policy.detach(), torch.tensor([[6.0, -12.0]]), 0.2, 0.0).loss.backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [[[-1.0] * 3, [2.0] * 3]]
