"""The model before and after alignment on the same prompts and seeds: metrics/rl.json."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import default_collate

from roboalign.metrics.statistics import paired_difference
from roboalign.metrics.video import psnr, repeated_frames
from roboalign.reward.rewards import Rollouts
from roboalign.rl.first_order import exact_kl
from roboalign.rl.grpo import token_log_probabilities
from roboalign.rl.interfaces import RolloutFn, ValueTokenizer
from roboalign.rl.prompts import Item, Prompts
from roboalign.rl.rollouts import PolicyRollouts, sample_rollouts
from roboalign.training import fold_in
from roboalign.types import Json

Values = Mapping[str, NDArray[np.float64]]

INDICATORS = ("psnr", "repeated_frames", "entropy", "position_error_cm")
"""What is also compared before and after: reward hacking would show here."""

Scores = Callable[[Rollouts], Mapping[str, Tensor]]
"""Totals (B,) of rollouts by name of the scorer; NaN if a scorer knows nothing of a rollout's source."""


@torch.no_grad()
def roll_out(
    policy: nn.Module,
    reference: nn.Module,
    rollout: RolloutFn,
    tokenizer: ValueTokenizer,
    prompts: Prompts,
    numbers: Sequence[int],
    score: Scores,
    *,
    temperature: float,
    segments: Sequence[tuple[int, int]],
    seed: int,
    batch_size: int,
    device: torch.device,
) -> Values:
    """Measures (N,) of one sampled rollout of each prompt: all that `score` gives, and psnr, repeated_frames, motion,
    true_motion, kl and entropy.

    Args:
        policy: Gives the likelihoods.
        reference: The KL divergence is to it, exact, in nats a token.
        rollout: Draws from the policy.
        tokenizer: Encodes the contexts of the windows.
        prompts: The prompts.
        numbers: Which of them.
        score: Scores rollouts.
        temperature: Of the rollouts.
        segments: Frames [start, stop) of each window, as the decoding has them.
        seed: Of the sampling; a prompt's seed is a function of it and the prompt's number.
        batch_size: Prompts at once.
        device: Of the models.
    """
    values: dict[str, list[Tensor]] = {}
    for start in range(0, len(numbers), batch_size):
        part = list(numbers[start : start + batch_size])
        item = {name: value.to(device) for name, value in default_collate([prompts[number] for number in part]).items()}
        seeds = torch.tensor([fold_in(seed, number) for number in part], device=device)
        made = sample_rollouts(
            cast(Item, item), [prompts.instruction(n) for n in part], [prompts.task(n) for n in part], rollout,
            tokenizer, seeds, group_size=1, segments=segments,
        )  # fmt: skip
        kl, entropy = divergence(policy, reference, made, temperature)
        video, targets = made.rollouts.videos, made.rollouts.targets
        found: dict[str, Tensor] = {
            "entropy": entropy,
            "kl": kl,
            "psnr": psnr(video[:, 1:], targets[:, 1:]).mean(1),
            "repeated_frames": repeated_frames(video),
            "motion": video.diff(dim=1).square().mean((1, 2, 3, 4)),
            "true_motion": targets.diff(dim=1).square().mean((1, 2, 3, 4)),
            **score(made.rollouts),
        }
        for name, value in found.items():
            values.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(parts).double().numpy() for name, parts in values.items()}


def divergence(
    policy: nn.Module, reference: nn.Module, made: PolicyRollouts, temperature: float
) -> tuple[Tensor, Tensor]:
    """The KL divergence of the policy from the reference, and the policy's entropy, (B,) each, in nats a token, on the
    policy's rollouts."""
    total = made.tokens.shape[1]
    kl, entropy = (made.rollouts.videos.new_zeros(len(made.tokens)) for _ in range(2))
    for window in made.windows:
        sequence, share = made.sequence(window), (window.stop - window.start) / total
        logits = policy(*sequence)
        kl += share * exact_kl(logits, reference(*sequence), temperature).flatten(1).mean(1)
        entropy += share * token_log_probabilities(logits, sequence[1], temperature)[1]
    return kl, entropy


def compare_policies(before: Values, after: Values, rewards: Iterable[str], episodes: Sequence[str]) -> dict[str, Json]:
    """The figures of metrics/rl.json that need both models: reward by scorer, KL, what would show hacking.

    The unit of the intervals is the episode: prompts of one episode are averaged first. `motion_ratio` is the motion
    energy of the aligned rollouts over that of the supervised ones; it is absent where the latter stand still. A reward
    that knows nothing of some prompts is compared on the others; one that knows nothing of any is absent.
    """
    old, new = by_episode(before, episodes), by_episode(after, episodes)

    def change(name: str) -> dict[str, Json]:
        known = np.isfinite(old[name]) & np.isfinite(new[name])
        ours, theirs = new[name][known], old[name][known]
        return {"before": float(theirs.mean()), "after": float(ours.mean()), **paired_difference(ours, theirs).json()}

    def is_measured(name: str) -> bool:
        return name in old and bool(np.isfinite(old[name]).any())

    result: dict[str, Json] = {
        "reward": {name: change(name) for name in rewards if is_measured(name)},
        "kl": float(new["kl"].mean()),
        "repeated_frames": float(new["repeated_frames"].mean()),
        "indicators": {name: change(name) for name in INDICATORS if is_measured(name)},
        "prompts": len(episodes),
    }
    if is_measured("shown_success"):
        result["success"] = {name: success_rates(values) for name, values in (("before", before), ("after", after))}
    if old["motion"].sum() > 0:
        result["motion_ratio"] = float(new["motion"].sum() / old["motion"].sum())
    if old["true_motion"].sum() > 0:
        result["motion_to_truth"] = {
            "before": float(old["motion"].sum() / old["true_motion"].sum()),
            "after": float(new["motion"].sum() / new["true_motion"].sum()),
        }
    return result


def success_rates(values: Values) -> dict[str, Json]:
    """How often rollouts show success although the true outcome fails, and the reverse; by what the probe perceives."""
    known = np.isfinite(values["shown_success"])
    shown, true = values["shown_success"][known] > 0.5, values["true_success"][known] > 0.5
    result: dict[str, Json] = {"true_successes": int(true.sum()), "true_failures": int((~true).sum())}
    if (~true).any():
        result["false_success"] = float(shown[~true].mean())
    if true.any():
        result["missed_success"] = float((~shown[true]).mean())
    return result


def by_episode(values: Values, episodes: Sequence[str]) -> Values:
    """The mean of each value over the prompts of one episode."""
    names = np.asarray(episodes)
    return {
        key: np.array([array[names == name].mean() for name in dict.fromkeys(episodes)])
        for key, array in values.items()
    }
