"""Conversion between the two representations of a video.

Frames are numpy arrays, uint8 (..., H, W, 3), as in the store. Videos are tensors, float32 (..., 3, H, W) in [0, 1], as
models expect them.
"""

import numpy as np
import torch
from torch import Tensor

from roboalign.types import UInt8


def frames_to_video(frames: UInt8, device: torch.device | str = "cpu") -> Tensor:
    """Convert uint8 frames (..., H, W, 3) to a float32 video (..., 3, H, W) in [0, 1]."""
    return to_float(torch.from_numpy(np.ascontiguousarray(frames)).to(device).movedim(-1, -3))


def to_float(video: Tensor) -> Tensor:
    """Convert a uint8 video (..., 3, H, W) to float32 in [0, 1]."""
    return video.float() / 255


def video_to_frames(video: Tensor) -> UInt8:
    """Convert a video (..., 3, H, W) to uint8 frames (..., H, W, 3); values are clipped to [0, 1] and rounded."""
    pixels = (video.detach().clamp(0, 1) * 255).round().byte().movedim(-3, -1)
    return np.ascontiguousarray(pixels.cpu().numpy())


def quantise(video: Tensor) -> Tensor:
    """Clip a video to [0, 1] and round it to multiples of 1/255, as it is after storing and reading its frames."""
    return (video.clamp(0, 1) * 255).round() / 255
