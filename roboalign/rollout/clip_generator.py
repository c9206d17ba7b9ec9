"""Rollouts and reconstructions as functions: of tensors for training and measuring, of stored frames for the bench."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.rollout.baselines import reconstruction
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.rollout import rollout
from roboalign.rollout.spec import FixedDecodingSpec
from roboalign.types import Float32, UInt8
from roboalign.video import frames_to_video, video_to_frames

ClipGenerator = Callable[[UInt8, Float32, NDArray[np.bool_], NDArray[np.int64]], UInt8]
"""A world model with its decoding: first frames (B, H, W, 3), normalised actions (B, F, A), action masks (B, A) and
seeds (B,) to the predicted frames (B, F, H, W, 3)."""


def make_rollout_fn(
    tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], decoding: FixedDecodingSpec
) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A function from context frames (B, 3, H, W), actions (B, F, A), action masks (B, A) and seeds (B,) to predicted
    frames (B, F, 3, H, W) and their tokens (B, F, Nd). It rolls out the sampler's model as it is at each call.

    `decoding` is not `true_refresh`, which needs the true frames.
    """

    def roll_out(frames: Tensor, actions: Tensor, mask: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        result = rollout(decoding, tokenizer, sampler, Prompt(frames, actions, mask, seeds))
        return result.frames[:, 1:], result.tokens

    return roll_out


def make_clip_generator(
    tokenizer: FrameTokenizer[ContextT],
    sampler: FrameSampler[StateT],
    decoding: FixedDecodingSpec,
    device: torch.device,
) -> ClipGenerator:
    """`make_rollout_fn` from stored first frames and actions to stored frames."""
    roll_out = make_rollout_fn(tokenizer, sampler, decoding)

    def generate(first: UInt8, actions: Float32, masks: NDArray[np.bool_], seeds: NDArray[np.int64]) -> UInt8:
        tensors = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (actions, masks, seeds))
        return video_to_frames(roll_out(frames_to_video(first, device), *tensors)[0])

    return generate


def make_reconstructor(tokenizer: FrameTokenizer[ContextT], device: torch.device) -> Callable[[UInt8], UInt8]:
    """A function from frames (T, H, W, 3) to their reconstructions by the tokenizer. The first frame, which is the
    context of the others, is returned unchanged."""

    @torch.no_grad()
    def reconstruct(frames: UInt8) -> UInt8:
        video = reconstruction(tokenizer, frames_to_video(frames, device).unsqueeze(0))[0]
        return np.concatenate([frames[:1], video_to_frames(video[1:])])

    return reconstruct
