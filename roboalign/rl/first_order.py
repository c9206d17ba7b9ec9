"""First-order alignment: the gradient of a differentiable reward, through the decoder, into the policy.

A rollout's frames are a differentiable function of the values of its codes, because FSQ codes are points of a grid. The
policy's expected value of each token is differentiable too. The gradient of the reward with respect to the values of
the sampled tokens is applied to the expected values: a straight-through estimator. It is biased, but has much less
variance than the likelihood-ratio estimator, because it has a direction for each token.
"""

from torch import Tensor


def expected_values(logits: Tensor, table: Tensor, temperature: float) -> Tensor:
    """Expected code values (..., V) under `logits` (..., codes) / temperature; `table` (codes, V) has their values."""
    values: Tensor = (logits.float() / temperature).softmax(-1) @ table
    return values


def first_order_loss(expected: Tensor, gradient: Tensor, scale: float | Tensor) -> Tensor:
    """The surrogate loss whose negative gradient moves expected code values along the gradient of the reward.

    Args:
        expected: Expected code values (B, ..., V) of the policy.
        gradient: Gradient of the rewards with respect to the sampled code values; same shape.
        scale: Divisor in units of the reward, such as its standard deviation.

    Returns:
        The mean over rollouts and tokens.
    """
    tokens = expected[..., 0].numel()
    return -(expected * gradient.detach()).sum() / (tokens * scale)


def exact_kl(logits: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """KL(pi || pi_0) of each token, (...), in nats, from the logits (..., codes) of both."""
    policy = (logits.float() / temperature).log_softmax(-1)
    anchor = (reference.float() / temperature).log_softmax(-1)
    return (policy.exp() * (policy - anchor)).sum(-1)


def reward_scale(rewards: Tensor, min_std: float) -> Tensor:
    """Population standard deviation of rewards (B,), at least `min_std`, by which gradients are divided."""
    return rewards.std(correction=0).clamp(min=max(min_std, 1e-8))
