import pytest
import torch
from rl_fakes import CODES, PLACES, ToyContext, ToyTokenizer, window_segments
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from roboalign.reward.rewards import Rollouts
from roboalign.rl.first_order import exact_kl, expected_values, first_order_loss, reward_scale
from roboalign.rl.rollouts import PolicyRollouts, Window, value_gradients


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_expected_values_are_the_mean_over_codes() -> None:
    table = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 4.0]])
    certain = torch.tensor([[0.0, 50.0, 0.0]])
    assert expected_values(certain, table, 1.0)[0].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert expected_values(torch.zeros(1, 3), table, 1.0)[0].tolist() == pytest.approx([0, 4 / 3])
    # A third of the odds at twice the temperature is their square root.
    odds = torch.tensor([[0.0, 2.0, -30.0]]).double()
    chance = float(torch.sigmoid(torch.tensor(1.0)))
    assert float(expected_values(odds, table.float(), 2.0)[0, 0]) == pytest.approx(2 * chance - 1, abs=1e-5)


def test_a_step_down_the_loss_moves_expected_values_along_the_reward() -> None:
    table = torch.linspace(-1, 1, CODES)[:, None]
    gradient = torch.tensor([1.0, -2.0, 0.0]).view(3, 1, 1)
    free = logits(3, 1, CODES).requires_grad_()
    before = expected_values(free, table, 1.0)
    first_order_loss(before, gradient, 1.0).backward()
    assert free.grad is not None
    with torch.no_grad():
        moved = expected_values(free - 0.1 * free.grad, table, 1.0) - before
    assert moved[0] > 0
    assert moved[1] < 0
    assert float(moved[2]) == 0


def test_the_gradient_is_that_of_the_surrogate_by_finite_differences() -> None:
    table, gradient = logits(CODES, 2, seed=1).double(), logits(2, 3, 2, seed=2).double()
    free = logits(2, 3, CODES).double().requires_grad_()

    def expected(values: Tensor) -> Tensor:
        return values.softmax(-1) @ table

    def loss(values: Tensor) -> Tensor:
        return first_order_loss(expected(values), gradient, 0.5)

    # The mean over 6 tokens of the reward's slope along the expected values, in units of 0.5.
    assert loss(free).item() == pytest.approx((-(expected(free) * gradient).sum() / 6 / 0.5).item())
    assert torch.autograd.gradcheck(loss, (free,))


def test_the_gradient_of_the_reward_is_held_constant() -> None:
    gradient = logits(1, 2, 1).requires_grad_()
    first_order_loss(logits(1, 2, 1, seed=1).requires_grad_(), gradient, 1.0).backward()
    assert gradient.grad is None


def test_exact_kl_is_the_divergence_of_the_distributions() -> None:
    policy, reference = logits(2, 3, 7), logits(2, 3, 7, seed=1)
    for temperature in (1.0, 0.7):
        expected = kl_divergence(Categorical(logits=policy / temperature), Categorical(logits=reference / temperature))
        torch.testing.assert_close(exact_kl(policy, reference, temperature), expected)
    assert float(exact_kl(policy, policy + 3, 1.0).abs().max()) == pytest.approx(0, abs=1e-6), "logits have no origin"


def test_the_scale_is_the_deviation_of_the_batch_but_not_too_small() -> None:
    assert float(reward_scale(torch.tensor([1.0, 3.0]), 0.1)) == pytest.approx(1)
    assert float(reward_scale(torch.tensor([1.0, 1.002]), 0.1)) == pytest.approx(0.1)
    assert float(reward_scale(torch.tensor([2.0]), 0.05)) == pytest.approx(0.05)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("window", [None, 2])
def test_gradients_say_how_each_token_should_change(window: int | None, parts: int) -> None:
    tokenizer, tokens = ToyTokenizer(), torch.randint(CODES, (2, 3, PLACES), generator=torch.Generator().manual_seed(0))
    context = ToyContext(torch.zeros(2, 1, dtype=torch.long), 8)
    frames = tokenizer.decode_values(context, tokenizer.code_values(tokens))
    videos = torch.cat([torch.zeros(2, 1, 3, 8, 8), frames], 1)
    rollouts = Rollouts(videos, ("a", "b"), torch.zeros(2, 3, 4), videos, (("s", "t"),) * 2)
    windows = tuple(Window(start, stop, context.tokens) for start, stop in window_segments(3, window))
    made = PolicyRollouts(rollouts, tokens, torch.ones(2, 4), windows, torch.zeros(2), 1)
    weights = torch.tensor([1.0, -2.0, 0.0])

    def reward(given: Rollouts) -> Tensor:
        return (given.videos[:, 1:].mean((2, 3, 4)) * weights).sum(1)

    rewards, gradients = value_gradients(made, tokenizer, reward, parts, parts)
    torch.testing.assert_close(rewards, reward(rollouts))
    assert [tuple(g.shape) for g in gradients] == [(2, w.stop - w.start, PLACES, 1) for w in windows]
    # A frame is as bright as the mean of its two values.
    joined = torch.cat(gradients, 1)[..., 0]
    torch.testing.assert_close(joined, (weights / 2)[None, :, None].expand(2, 3, PLACES))
