"""First-order alignment: the gradient of a reward with respect to the code values of a rollout, into the policy.

A rollout's frames are a differentiable function of the values of its codes (FSQ codes are points of a grid). The
policy's expected value of each token is differentiable too. So a gradient of the reward with respect to the values of
the sampled tokens moves the expected values in its direction: a straight-through estimator, biased, and of far less
variance than the likelihood-ratio estimator, because it says for each token how it should change.
"""

from torch import Tensor


def expected_values(logits: Tensor, table: Tensor, temperature: float) -> Tensor:
    """The policy's expected code values (..., V) under `logits` (..., codes) / temperature; `table` is (codes, V)."""
    values: Tensor = (logits.float() / temperature).softmax(-1) @ table
    return values


def first_order_loss(expected: Tensor, gradient: Tensor, scale: float | Tensor) -> Tensor:
    """The surrogate whose gradient moves `expected` (B, ..., V) along `gradient`, that of the rollouts' rewards with
    respect to their code values, alike; the mean over rollouts and tokens, over `scale`, in units of the reward."""
    tokens = expected[..., 0].numel()
    return -(expected * gradient.detach()).sum() / (tokens * scale)


def exact_kl(logits: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """KL(pi || pi_0) of each token (...), in nats, from both logits (..., codes)."""
    policy = (logits.float() / temperature).log_softmax(-1)
    anchor = (reference.float() / temperature).log_softmax(-1)
    return (policy.exp() * (policy - anchor)).sum(-1)


def reward_scale(rewards: Tensor, min_std: float) -> Tensor:
    """The standard deviation of rewards (B,) over a batch, at least `min_std`: what a gradient is measured in."""
    return rewards.std(correction=0).clamp(min=max(min_std, 1e-8))
