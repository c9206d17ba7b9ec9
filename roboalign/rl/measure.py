"""The model before and after alignment on the same prompts and seeds: metrics/rl.json."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import default_collate

from roboalign.evaluation.statistics import paired
from roboalign.evaluation.video import psnr, repeated_frames
from roboalign.rl.grpo import low_variance_kl, token_log_probabilities
from roboalign.rl.interfaces import Draw, PromptReward, Reward, Tokenizer
from roboalign.rl.prompts import Prompts
from roboalign.training import fold
from roboalign.types import Json

Values = Mapping[str, NDArray[np.float64]]

INDICATORS = ("psnr", "repeated_frames", "entropy")
"""What is also compared before and after: reward hacking would show here."""


@torch.no_grad()
def rolled_out(
    model: nn.Module,
    draw: Draw,
    reference: nn.Module,
    tokenizer: Tokenizer,
    prompts: Prompts,
    numbers: list[int],
    rewards: Mapping[str, Reward],
    *,
    temperature: float,
    seed: int,
    batch: int,
    device: torch.device,
    gold: PromptReward | None = None,
) -> Values:
    """Of one sampled rollout of each prompt: each reward, psnr, repeated_frames, motion, kl and entropy, (N,) each, and
    gold, NaN where it knows nothing of a prompt's source.

    `draw` draws from `model`. The KL is to `reference`, estimated on these samples, in nats a token.
    """
    values: dict[str, list[Tensor]] = {}
    for start in range(0, len(numbers), batch):
        part = numbers[start : start + batch]
        item = {name: value.to(device) for name, value in default_collate([prompts[number] for number in part]).items()}
        words = [prompts.instruction(number) for number in part]
        context = tokenizer.encode_context(item["frames"][:, 0])
        seeds = torch.tensor([fold(seed, number) for number in part], device=device)
        tokens = draw(context.tokens, item["actions"], item["action_mask"], seeds, 1)
        video = torch.cat([item["frames"][:, :1], tokenizer.decode(context, tokens)], 1)
        given = context.tokens, tokens, item["actions"], item["action_mask"]
        chosen, entropy = token_log_probabilities(model(*given), tokens, temperature)
        anchor, _ = token_log_probabilities(reference(*given), tokens, temperature)
        found = {
            "entropy": entropy,
            "kl": low_variance_kl(chosen, anchor).flatten(1).mean(1),
            "psnr": psnr(video[:, 1:], item["frames"][:, 1:]).mean(1),
            "repeated_frames": repeated_frames(video),
            "motion": video.diff(dim=1).square().mean((1, 2, 3, 4)),
            "true_motion": item["frames"].diff(dim=1).square().mean((1, 2, 3, 4)),
        }
        found |= {name: reward(video, words, item["frames"]) for name, reward in rewards.items()}
        if gold is not None:
            found["gold"] = gold(part, video, item["frames"])
        for name, value in found.items():
            values.setdefault(name, []).append(value)
    return {name: torch.cat(parts).double().cpu().numpy() for name, parts in values.items()}


def compared(before: Values, after: Values, rewards: Iterable[str], episodes: Sequence[str]) -> dict[str, Json]:
    """The figures of metrics/rl.json that need both models: reward by scorer, KL, what would show hacking.

    The unit of the intervals is the episode: prompts of one episode are averaged first. `motion_ratio` is the motion
    energy of the aligned rollouts over that of the supervised ones; it is absent where the latter stand still. A reward
    that knows nothing of some prompts is compared on the others; one that knows nothing of any is absent.
    """
    old, new = by_episode(before, episodes), by_episode(after, episodes)

    def change(name: str) -> dict[str, Json]:
        known = np.isfinite(old[name]) & np.isfinite(new[name])
        ours, theirs = new[name][known], old[name][known]
        return {"before": float(theirs.mean()), "after": float(ours.mean()), **paired(ours, theirs).json()}

    result: dict[str, Json] = {
        "reward": {name: change(name) for name in rewards if np.isfinite(old[name]).any()},
        "kl": float(new["kl"].mean()),
        "repeated_frames": float(new["repeated_frames"].mean()),
        "indicators": {name: change(name) for name in INDICATORS},
        "prompts": len(episodes),
    }
    if old["motion"].sum() > 0:
        result["motion_ratio"] = float(new["motion"].sum() / old["motion"].sum())
    if old["true_motion"].sum() > 0:
        result["motion_to_truth"] = {
            "before": float(old["motion"].sum() / old["true_motion"].sum()),
            "after": float(new["motion"].sum() / new["true_motion"].sum()),
        }
    return result


def by_episode(values: Values, episodes: Sequence[str]) -> Values:
    """The mean of each value over the prompts of one episode."""
    names = np.asarray(episodes)
    return {
        key: np.array([array[names == name].mean() for name in dict.fromkeys(episodes)])
        for key, array in values.items()
    }
