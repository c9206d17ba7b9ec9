"""The objective of GRPO (paper): -E[min(rho A, clip(rho, 1 - eps, 1 + eps) A)] + beta KL(pi || pi_0)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """The loss, with its gradient, and what curves show of it."""

    loss: Tensor
    kl: Tensor
    """Mean KL estimate a token, in nats."""
    clip_fraction: Tensor
    """Share of tokens whose ratio was clipped and whose gradient is therefore 0."""


def token_log_probabilities(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, F, Nd) of `tokens` under `logits` (B, F, Nd, codes) / temperature; mean entropies (B,)."""
    distribution = (logits.float() / temperature).log_softmax(-1)
    entropy = -(distribution.exp() * distribution).sum(-1).flatten(1).mean(1)
    return distribution.gather(-1, tokens[..., None])[..., 0], entropy.detach()


def low_variance_kl(policy: Tensor, reference: Tensor) -> Tensor:
    """The estimate r - ln r - 1, r = pi_0 / pi, of KL(pi || pi_0) on samples of pi; never negative, unbiased.

    Both are log-probabilities of the sampled tokens (http://joschu.net/blog/kl-approx.html, k3).
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
    """The loss over rollouts of equal length, so that the mean over tokens is also the mean over rollouts.

    Args:
        policy: (B, F, Nd), log-probabilities of the sampled tokens.
        old: Alike, by the policy that sampled; without gradient.
        reference: Alike, by the supervised model; without gradient.
        advantage: (B,) by rollout, or (B, F) by frame.
        clip_eps: Lower clipping of the likelihood ratio.
        kl_coef: Weight of the KL divergence to the supervised model.
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
