"""Compares the model before and after alignment on the same prompts and seeds: metrics/rl.json."""

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
"""Measures that are compared before and after alignment in addition to rewards, because they reveal reward hacking."""

Scores = Callable[[Rollouts], Mapping[str, Tensor]]
"""Maps rollouts to total scores (B,) by scorer; NaN if a scorer does not cover a rollout's source."""


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
    """Measure one rollout of each prompt.

    Args:
        policy: The model whose likelihoods are measured.
        reference: The model from which the KL divergence is measured, exactly, in nats per token.
        rollout: Samples from the policy.
        tokenizer: Encodes the contexts of the windows.
        prompts: The prompts.
        numbers: Numbers (N,) of the prompts that are used.
        score: Scores rollouts.
        temperature: Temperature of the rollouts.
        segments: Frames [start, stop) of each window of the decoding.
        seed: Seed of the sampling; a prompt's seed is a function of it and the prompt's number.
        batch_size: Prompts rolled out at once.
        device: Device of the models.

    Returns:
        Values (N,) by name: those of `score`, and psnr, repeated_frames, motion, true_motion, kl and entropy.
    """
    values: dict[str, list[Tensor]] = {}
    for start in range(0, len(numbers), batch_size):
        part = list(numbers[start : start + batch_size])
        item = {name: value.to(device) for name, value in default_collate([prompts[number] for number in part]).items()}
        seeds = torch.tensor([fold_in(seed, number) for number in part], device=device)
        rollouts = sample_rollouts(
            cast(Item, item), [prompts.instruction(n) for n in part], [prompts.task(n) for n in part], rollout,
            tokenizer, seeds, group_size=1, segments=segments,
        )  # fmt: skip
        kl, entropy = divergence(policy, reference, rollouts, temperature)
        video, targets = rollouts.rollouts.videos, rollouts.rollouts.targets
        measured: dict[str, Tensor] = {
            "entropy": entropy,
            "kl": kl,
            "psnr": psnr(video[:, 1:], targets[:, 1:]).mean(1),
            "repeated_frames": repeated_frames(video),
            "motion": video.diff(dim=1).square().mean((1, 2, 3, 4)),
            "true_motion": targets.diff(dim=1).square().mean((1, 2, 3, 4)),
            **score(rollouts.rollouts),
        }
        for name, value in measured.items():
            values.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(parts).double().numpy() for name, parts in values.items()}


def divergence(
    policy: nn.Module, reference: nn.Module, rollouts: PolicyRollouts, temperature: float
) -> tuple[Tensor, Tensor]:
    """KL divergence of the policy from the reference, and entropy of the policy, (B,) each, in nats per token, on the
    policy's rollouts."""
    total = rollouts.tokens.shape[1]
    kl, entropy = (rollouts.rollouts.videos.new_zeros(len(rollouts.tokens)) for _ in range(2))
    for window in rollouts.windows:
        sequence, fraction = rollouts.sequence(window), (window.stop - window.start) / total
        logits = policy(*sequence)
        kl += fraction * exact_kl(logits, reference(*sequence), temperature).flatten(1).mean(1)
        entropy += fraction * token_log_probabilities(logits, sequence[1], temperature)[1]
    return kl, entropy


def compare_policies(before: Values, after: Values, rewards: Iterable[str], episodes: Sequence[str]) -> dict[str, Json]:
    """The entries of metrics/rl.json that compare both models: rewards by scorer, KL, and indicators of reward hacking.

    The unit of the intervals is the episode: prompts of one episode are averaged first. `motion_ratio` is the motion
    energy of the aligned rollouts over that of the supervised ones, and absent if the latter have none. Prompts for
    which a reward is NaN are left out of its comparison; a reward that is NaN for all prompts is absent.

    Args:
        before: Measures (N,) of the supervised model, by name.
        after: Measures (N,) of the aligned model on the same prompts.
        rewards: Names of the scorers.
        episodes: The episode of each prompt, (N,).
    """
    old, new = by_episode(before, episodes), by_episode(after, episodes)

    def change(name: str) -> dict[str, Json]:
        valid = np.isfinite(old[name]) & np.isfinite(new[name])
        aligned, supervised = new[name][valid], old[name][valid]
        means = {"before": float(supervised.mean()), "after": float(aligned.mean())}
        return {**means, **paired_difference(aligned, supervised).json()}

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
    """Rates of false success (shown although the true outcome fails) and of missed success, as the probe perceives."""
    valid = np.isfinite(values["shown_success"])
    shown, true = values["shown_success"][valid] > 0.5, values["true_success"][valid] > 0.5
    result: dict[str, Json] = {"true_successes": int(true.sum()), "true_failures": int((~true).sum())}
    if (~true).any():
        result["false_success"] = float(shown[~true].mean())
    if true.any():
        result["missed_success"] = float((~shown[true]).mean())
    return result


def by_episode(values: Values, episodes: Sequence[str]) -> Values:
    """The mean of each value over the prompts of each episode, in the order in which episodes first occur."""
    names = np.asarray(episodes)
    return {
        key: np.array([array[names == name].mean() for name in dict.fromkeys(episodes)])
        for key, array in values.items()
    }
