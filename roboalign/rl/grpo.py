"""The objective of GRPO (paper): -E[min(rho A, clip(rho, 1 - eps, 1 + eps) A)] + beta KL(pi || pi_0)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """The loss, with gradient, and statistics for curves."""

    loss: Tensor
    kl: Tensor
    """Mean KL estimate per token, in nats."""
    clip_fraction: Tensor
    """Fraction of tokens whose ratio is clipped, so that their gradient is 0."""


def token_log_probabilities(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, F, Nd) of `tokens` (B, F, Nd) under `logits` (B, F, Nd, codes) / temperature, and mean
    entropies (B,) in nats, without gradient."""
    distribution = (logits.float() / temperature).log_softmax(-1)
    entropy = -(distribution.exp() * distribution).sum(-1).flatten(1).mean(1)
    return distribution.gather(-1, tokens[..., None])[..., 0], entropy.detach()


def low_variance_kl(policy: Tensor, reference: Tensor) -> Tensor:
    """The estimate r - ln r - 1, r = pi_0 / pi, of KL(pi || pi_0) on samples of pi; unbiased and never negative.

    `policy` and `reference` are log-probabilities of the sampled tokens. See k3 in
    http://joschu.net/blog/kl-approx.html.
    """
    difference = reference - policy
    return difference.exp() - difference - 1


def grpo(
    policy: Tensor,
    old: Tensor,
    reference: Tensor,
    advantage: Tensor,
    clip_eps: float,
    kl_coef: float,
    clip_eps_high: float | None = None,
) -> Parts:
    """The GRPO loss. All rollouts have equal length, so the mean over tokens is also the mean over rollouts.

    Args:
        policy: Log-probabilities (B, F, Nd) of the sampled tokens.
        old: Those by the policy that sampled them; without gradient.
        reference: Those by the supervised model; without gradient.
        advantage: (B,) by rollout, or (B, F) by frame.
        clip_eps: Lower clipping of the likelihood ratio.
        kl_coef: Weight of the KL divergence from the supervised model.
        clip_eps_high: Upper clipping; None is `clip_eps`.
    """
    high = clip_eps if clip_eps_high is None else clip_eps_high
    gain = advantage.view(*advantage.shape, *[1] * (policy.ndim - advantage.ndim))
    ratio = (policy - old.detach()).exp()
    clipped = ratio.clamp(1 - clip_eps, 1 + high)
    surrogate = torch.minimum(ratio * gain, clipped * gain)
    kl = low_variance_kl(policy, reference.detach())
    beyond = ((ratio > 1 + high) & (gain > 0)) | ((ratio < 1 - clip_eps) & (gain < 0))
    loss = (kl_coef * kl - surrogate).mean()
    return Parts(loss, kl.mean().detach(), beyond.float().mean())
