"""What a reward model has read of clips, before its transformers: of one batch, and as sets of clips to train on."""

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """What a reward model has read of B clips, K frames each, before its transformers."""

    states: Tensor
    """(E, B, K, STATE_FEATURES) by each of the E members of the eyes; zero for unknown scenes."""
    rest: Tensor
    """(B, K, R): image, action and time features."""
    valid: Tensor
    """(B, K): false for padding."""
    motion: Tensor
    """(B, PROFILE)."""
    videos: Tensor | None = None
    """(B, T, 3, H, W) for the appearance encoder, and `lengths` (B,) of them; None without one."""
    lengths: Tensor | None = None


class SetBatch(TypedDict, total=False):
    """One set of G clips, K frames each; as a batch, each with a leading axis. See Observation."""

    states: Tensor
    """(G, E, K, STATE_FEATURES)."""
    rest: Tensor
    """(G, K, R)."""
    valid: Tensor
    """(G, K)."""
    motion: Tensor
    """(G, PROFILE)."""
    words: Tensor
    """(G, L)."""
    target: Tensor
    """(G, 2, D), normalised scores."""
    grouped: Tensor
    """(): whether the clips are rollouts of one prompt."""
    videos: Tensor
    """(G, T, 3, H, W), uint8, padded, only for a model with an appearance encoder; with it `lengths` (G,)."""
    lengths: Tensor


def make_set(observation: Observation, words: Tensor, targets: Tensor) -> SetBatch:
    """Observed clips with words (G, L) and targets (G, 2, D), as rollouts of one prompt; on the CPU."""
    result: SetBatch = {
        "states": observation.states.transpose(0, 1).cpu(),
        "rest": observation.rest.cpu(),
        "valid": observation.valid.cpu(),
        "motion": observation.motion.cpu(),
        "words": words.cpu(),
        "target": targets.cpu(),
    }
    if observation.videos is not None and observation.lengths is not None:
        result["videos"] = (observation.videos * 255).round().byte().cpu()
        result["lengths"] = observation.lengths.cpu()
    return result


def observation_of(batch: SetBatch) -> Observation:
    """The observation of N sets of a batch as one of N * G clips."""
    videos, lengths = batch.get("videos"), batch.get("lengths")
    return Observation(
        batch["states"].flatten(0, 1).transpose(0, 1),
        batch["rest"].flatten(0, 1),
        batch["valid"].flatten(0, 1),
        batch["motion"].flatten(0, 1),
        None if videos is None else videos.flatten(0, 1).float() / 255,
        None if lengths is None else lengths.flatten(),
    )
