"""Rollouts and reconstructions of stored frames: uint8 in, uint8 out."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from roboalign.rollout.baselines import reconstruction
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, SequenceState
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.rollout import rollout
from roboalign.rollout.spec import FixedDecodingSpec
from roboalign.types import Float32, UInt8
from roboalign.video import frames_to_video, video_to_frames

StateT = TypeVar("StateT", bound=SequenceState)

ClipGenerator = Callable[[UInt8, Float32, NDArray[np.bool_], NDArray[np.int64]], UInt8]
"""A world model with its decoding: first frames (B, H, W, 3), normalised actions (B, F, A), action masks (B, A) and
seeds (B,) to the predicted frames (B, F, H, W, 3)."""


def make_clip_generator(
    tokenizer: FrameTokenizer[ContextT],
    sampler: FrameSampler[StateT],
    decoding: FixedDecodingSpec,
    device: torch.device,
) -> ClipGenerator:
    """A function from first frames and actions to predicted frames, by one decoding.

    `decoding` is not `true_refresh`, which needs the true frames.
    """

    def generate(first: UInt8, actions: Float32, masks: NDArray[np.bool_], seeds: NDArray[np.int64]) -> UInt8:
        tensors = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (actions, masks, seeds))
        prompt = Prompt(frames_to_video(first, device), *tensors)
        return video_to_frames(rollout(decoding, tokenizer, sampler, prompt).frames[:, 1:])

    return generate


def make_reconstructor(tokenizer: FrameTokenizer[ContextT], device: torch.device) -> Callable[[UInt8], UInt8]:
    """A function from frames (T, H, W, 3) to the frames that the tokenizer gives back; the first one, their context, as
    it was."""

    @torch.no_grad()
    def reconstruct(frames: UInt8) -> UInt8:
        video = reconstruction(tokenizer, frames_to_video(frames, device).unsqueeze(0))[0]
        return np.concatenate([frames[:1], video_to_frames(video[1:])])

    return reconstruct
