"""The two forms of a video, and the one conversion between them.

Frames are uint8 (..., H, W, 3), as stored and as numpy; videos are float32 (..., 3, H, W) in [0, 1], as models take
them.
"""

import numpy as np
import torch
from torch import Tensor

from roboalign.types import UInt8


def frames_to_video(frames: UInt8, device: torch.device | str = "cpu") -> Tensor:
    """uint8 frames (..., H, W, 3) as a float32 video (..., 3, H, W) in [0, 1]."""
    return to_float(torch.from_numpy(np.ascontiguousarray(frames)).to(device).movedim(-1, -3))


def to_float(video: Tensor) -> Tensor:
    """A uint8 video (..., 3, H, W) as float32 in [0, 1]."""
    return video.float() / 255


def video_to_frames(video: Tensor) -> UInt8:
    """A video (..., 3, H, W) in [0, 1], values outside clipped, as uint8 frames (..., H, W, 3), rounded."""
    pixels = (video.detach().clamp(0, 1) * 255).round().byte().movedim(-3, -1)
    return np.ascontiguousarray(pixels.cpu().numpy())


def quantise(video: Tensor) -> Tensor:
    """A video as a reader of its stored frames sees it: clipped to [0, 1] and rounded to 1/255."""
    return (video.clamp(0, 1) * 255).round() / 255
