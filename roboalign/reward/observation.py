"""The inputs of a reward model's transformers: of a batch of clips, and as sets of clips for training."""

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """The transformers' inputs for B clips with K sampled frames each."""

    states: Tensor
    """(E, B, K, STATE_FEATURES), by each of the E members of the state probe; 0 for unknown scenes."""
    rest: Tensor
    """(B, K, R), image, action and time features."""
    valid: Tensor
    """(B, K), false for padding."""
    motion: Tensor
    """(B, PROFILE), motion profiles."""
    videos: Tensor | None = None
    """(B, T, 3, H, W) in [0, 1] for the appearance encoder; None without one."""
    lengths: Tensor | None = None
    """(B,), number of valid frames of `videos`; None without an appearance encoder."""


class SetBatch(TypedDict, total=False):
    """One set of G clips with K sampled frames each; in a batch, each field has a leading axis N. See Observation."""

    states: Tensor
    """(G, E, K, STATE_FEATURES)."""
    rest: Tensor
    """(G, K, R)."""
    valid: Tensor
    """(G, K)."""
    motion: Tensor
    """(G, PROFILE)."""
    words: Tensor
    """(G, L), word numbers."""
    target: Tensor
    """(G, 2, D), normalised scores."""
    grouped: Tensor
    """(), whether the clips are rollouts of one prompt."""
    videos: Tensor
    """(G, T, 3, H, W), uint8, padded; only for a model with an appearance encoder."""
    lengths: Tensor
    """(G,), number of valid frames of `videos`; only with `videos`."""


def make_set(observation: Observation, words: Tensor, targets: Tensor) -> SetBatch:
    """A set on the CPU from observed rollouts of one prompt, their words (G, L) and targets (G, 2, D)."""
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
    """Flatten a batch of N sets into the observation of N * G clips."""
    videos, lengths = batch.get("videos"), batch.get("lengths")
    return Observation(
        batch["states"].flatten(0, 1).transpose(0, 1),
        batch["rest"].flatten(0, 1),
        batch["valid"].flatten(0, 1),
        batch["motion"].flatten(0, 1),
        None if videos is None else videos.flatten(0, 1).float() / 255,
        None if lengths is None else lengths.flatten(),
    )
