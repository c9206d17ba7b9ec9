"""Conversion between the representations of a video.

Frames are numpy arrays, uint8 (..., H, W, 3), as in the store. Videos are tensors, float32 (..., 3, H, W) in [0, 1], as
models expect them. Videos that wait for their use are uint8 tensors on the CPU, a quarter of the size.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from roboalign.types import UInt8


def frames_to_video(frames: UInt8, device: torch.device | str = "cpu") -> Tensor:
    """Convert uint8 frames (..., H, W, 3) to a float32 video (..., 3, H, W) in [0, 1]."""
    return to_float(torch.from_numpy(np.ascontiguousarray(frames)).to(device).movedim(-1, -3))


def to_float(video: Tensor) -> Tensor:
    """Convert a uint8 video (..., 3, H, W) to float32 in [0, 1]; a float video stays as it is."""
    return video if video.is_floating_point() else video.float() / 255


def to_uint8(video: Tensor) -> Tensor:
    """Convert a float video (..., 3, H, W) to uint8; values are clipped to [0, 1] and rounded. uint8 stays as it is."""
    return (video.detach().clamp(0, 1) * 255).round().byte() if video.is_floating_point() else video


def video_to_frames(video: Tensor) -> UInt8:
    """Convert a video (..., 3, H, W) to uint8 frames (..., H, W, 3); values are clipped to [0, 1] and rounded."""
    pixels = to_uint8(video).movedim(-3, -1)
    return np.ascontiguousarray(pixels.cpu().numpy())


def quantise(video: Tensor) -> Tensor:
    """Clip a video to [0, 1] and round it to multiples of 1/255, as it is after storing and reading its frames."""
    return (video.clamp(0, 1) * 255).round() / 255


def allocate_video(shape: Sequence[int], folder: Path | None = None) -> Tensor:
    """A uint8 video (..., 3, H, W) on the CPU, to be filled.

    With a `folder` its pixels lie in a file there instead of in memory. The file has no name and ends with the tensor.
    """
    if folder is None or 0 in shape:
        return torch.empty(tuple(shape), dtype=torch.uint8)
    with tempfile.TemporaryFile(dir=folder) as file:
        return torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=tuple(shape)))


def concatenate_videos(videos: Sequence[Tensor], folder: Path | None = None) -> Tensor:
    """uint8 videos (N, T, 3, H, W) one after another; see `allocate_video` for the `folder`."""
    whole = allocate_video((sum(map(len, videos)), *videos[0].shape[1:]), folder)
    return torch.cat(list(videos), out=whole)
