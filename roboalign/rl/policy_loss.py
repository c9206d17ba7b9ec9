"""The policy's loss on rollouts that a reward has credited, for each optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from roboalign.rl.first_order import exact_kl, expected_values, first_order_loss
from roboalign.rl.grpo import grpo, token_log_probabilities
from roboalign.rl.rollouts import PolicyRollouts, Window, split_rows
from roboalign.rl.spec import GRPOSpec, RLSpec


@dataclass(frozen=True)
class Credit:
    """The rewards of B rollouts in the form that the loss of each optimiser needs."""

    rewards: Tensor
    """(B,)."""
    gradients: list[Tensor] | None = None
    """First order: of the rewards with respect to the code values of each window, (B, frames, Nd, V)."""
    scale: Tensor | float = 1.0
    """First order: the unit of the gradients."""
    advantage: Tensor | None = None
    """GRPO: (B,) by rollout, or (B, F) by frame."""
    kept: Tensor | None = None
    """Best of N: (B,), 1 for the rollouts to imitate."""
    imitated: Tensor | float = 1.0
    """Best of N: the mean number of rollouts to imitate that a rank has."""


@dataclass(frozen=True)
class PolicyLoss:
    """The loss of the policy, with the KL divergence from the reference."""

    spec: RLSpec
    policy: nn.Module
    reference: nn.Module
    """The supervised world model, pi_0."""
    table: Tensor
    """Values (codes, V) of the dynamics codes."""

    def __call__(
        self, rollouts: PolicyRollouts, credit: Credit, rows: slice = slice(None), old: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The part of the policy's loss that `rows` of its rollouts have, and their part in what curves show.

        The parts of all rows add up to the whole. `old` has for each window the log-probabilities of the policy that
        sampled; None if that is the policy as it is.
        """
        spec = self.spec
        count, total = len(rollouts.tokens[rows]), rollouts.tokens.shape[1]
        part = count / len(rollouts.tokens)
        terms: dict[str, Tensor] = {}
        for number, window in enumerate(rollouts.windows):
            sequence = rollouts.sequence(window, rows)
            share = (window.stop - window.start) / total
            logits = self.policy(*sequence)
            with torch.no_grad():
                reference = self.reference(*sequence)
            if credit.gradients is not None:
                kl = exact_kl(logits, reference, spec.temperature).mean()
                expected = expected_values(logits, self.table.to(logits.device), spec.temperature)
                loss = first_order_loss(expected, credit.gradients[number][rows], credit.scale) + spec.kl_coef * kl
                logs = {"kl": kl, "entropy": _entropy(logits, spec.temperature)}
            else:
                policy, entropy = token_log_probabilities(logits, sequence[1], spec.temperature)
                if credit.kept is not None:
                    kept = credit.kept[rows]
                    kl = exact_kl(logits, reference, spec.temperature).mean()
                    likelihood = (policy.flatten(1).mean(1) * kept).sum() / (credit.imitated * part)
                    loss, logs = spec.kl_coef * kl - likelihood, {"kl": kl, "kept": kept.mean()}
                else:
                    before = policy.detach() if old is None else old[number][rows]
                    loss, logs = self._grpo(policy, before, reference, sequence[1], credit, window, rows)
                logs["entropy"] = entropy.mean()
            for name, value in (logs | {"loss": loss}).items():
                terms[name] = terms.get(name, torch.zeros((), device=loss.device)) + part * share * value
        return terms["loss"], terms

    def _grpo(
        self,
        policy: Tensor,
        old: Tensor,
        reference: Tensor,
        tokens: Tensor,
        credit: Credit,
        window: Window,
        rows: slice,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """GRPO's loss of one window."""
        spec = self.spec.optimizer
        assert isinstance(spec, GRPOSpec)
        assert credit.advantage is not None
        advantage = credit.advantage[rows]
        if advantage.ndim > 1:
            advantage = advantage[:, window.start : window.stop]
        anchor, _ = token_log_probabilities(reference, tokens, self.spec.temperature)
        parts = grpo(policy, old, anchor, advantage, spec.clip_eps, self.spec.kl_coef, spec.clip_eps_high)
        return parts.loss, {"kl": parts.kl, "clip_fraction": parts.clip_fraction}

    @torch.no_grad()
    def log_probabilities(self, rollouts: PolicyRollouts, parts: int) -> list[Tensor]:
        """For each window, the log-probabilities (B, frames, Nd) of the sampled tokens by the policy as it is.

        The policy computes them in `parts` parts of the rollouts.
        """
        found = []
        for window in rollouts.windows:
            sequences = (rollouts.sequence(window, rows) for rows in split_rows(len(rollouts.tokens), parts))
            temperature = self.spec.temperature
            rows = [token_log_probabilities(self.policy(*each), each[1], temperature)[0] for each in sequences]
            found.append(torch.cat(rows))
        return found


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    """Mean entropy of the token distributions, in nats."""
    distribution = (logits.detach().float() / temperature).log_softmax(-1)
    return -(distribution.exp() * distribution).sum(-1).mean()
