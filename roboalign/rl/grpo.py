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


def grpo(policy: Tensor, old: Tensor, reference: Tensor, advantage: Tensor, clip: float, beta: float) -> Parts:
    """The loss over rollouts: (B, …) log-probabilities of the sampled tokens, and the advantage (B,) of each rollout.

    `old` are those of the policy that sampled, `reference` those of the supervised model; neither gets a gradient.
    All rollouts are equally long, so the mean over tokens is also the mean over rollouts.
    """
    gain = advantage.view(-1, *[1] * (policy.ndim - 1))
    ratio = (policy - old.detach()).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    surrogate = torch.minimum(ratio * gain, clipped * gain)
    kl = low_variance_kl(policy, reference.detach())
    beyond = ((ratio > 1 + clip) & (gain > 0)) | ((ratio < 1 - clip) & (gain < 0))
    loss = (beta * kl - surrogate).mean()
    return Parts(loss, kl.mean().detach(), beyond.float().mean())
