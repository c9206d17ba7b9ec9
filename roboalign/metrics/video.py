"""Metrics of videos (B, T, 3, H, W), float in [0, 1], with one number for each frame or clip.

With non-negative `weights` (B, T, H, W), a metric is the weighted mean over pixels. The ROI metrics use the moving
region as weights.
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchmetrics.functional.image import structural_similarity_index_measure

CEILING = 100.0
"""Maximum PSNR in dB, used for equal frames, whose PSNR is infinite."""

SSIM_WINDOW = 11
"""Size of SSIM's Gaussian window in pixels, which is the minimum size of frames."""


def check_shapes(video: Tensor, target: Tensor) -> None:
    """Raise ValueError unless both are (B, T, 3, H, W) with equal shapes."""
    if video.shape != target.shape or video.ndim != 5 or video.shape[2] != 3:
        raise ValueError(
            f"videos must both be (B, T, 3, H, W); they are {tuple(video.shape)} and {tuple(target.shape)}"
        )


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over pixels (B, T) of values (B, T, H, W), weighted by `weights` unless a frame's weights are all 0."""
    mean = values.mean((-2, -1))
    if weights is None:
        return mean
    total = weights.sum((-2, -1))
    weighted = (values * weights).sum((-2, -1)) / total.clamp(min=torch.finfo(values.dtype).tiny)
    return torch.where(total > 0, weighted, mean)


def moving_region(target: Tensor, threshold: float = 0.1, grow: int = 2) -> Tensor:
    """The region of interest (B, T, H, W), 1 for pixels that differ from the target's first frame, otherwise 0.

    Args:
        target: True videos (B, T, 3, H, W).
        threshold: Difference of a colour above which a pixel has changed.
        grow: Pixels by which the changed region is extended.
    """
    moved = ((target - target[:, :1]).abs().amax(2) > threshold).to(target.dtype)
    return max_pool2d(moved, 2 * grow + 1, stride=1, padding=grow)


def psnr(video: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio (B, T) of each frame in dB, at most CEILING."""
    check_shapes(video, target)
    error = weighted_mean((video - target).square().mean(2), weights)
    return -10 * error.clamp(min=10 ** (-CEILING / 10)).log10()


def ssim(video: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Structural similarity (B, T) of each frame, with a Gaussian window of 11 pixels and sigma 1.5.

    Without weights, the border that the window does not cover is excluded, as usual; with weights it is included.
    Raises ValueError if frames are smaller than the window.
    """
    check_shapes(video, target)
    if min(video.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs frames of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels; these are {tuple(video.shape[-2:])}"
        )
    batch = video.shape[:2]
    mean, full = structural_similarity_index_measure(
        video.flatten(0, 1), target.flatten(0, 1), data_range=1.0, reduction="none", return_full_image=True
    )
    if weights is None:
        return mean.reshape(batch)
    return weighted_mean(full.mean(1).reshape(*batch, *full.shape[2:]), weights)


def repeated_frames(video: Tensor, tolerance: float = 1 / 255) -> Tensor:
    """The fraction (B,) of frames whose mean absolute difference from the previous frame is at most `tolerance`.

    RLVR-World reports this fraction without a formula; the tolerance is our choice. Compare it with the target's,
    because real videos repeat frames too. 0 for a clip of one frame.
    """
    if video.shape[1] < 2:
        return video.new_zeros(len(video))
    return (video.diff(dim=1).abs().mean((2, 3, 4)) <= tolerance).to(video.dtype).mean(1)


STILL = 1e-7
"""Motion energy below visibility, added to both so that the ratio of two still clips is 1."""


def motion_energy(video: Tensor) -> Tensor:
    """The mean squared difference (B,) between neighbouring frames; 0 for a clip of one frame."""
    if video.shape[1] < 2:
        return video.new_zeros(len(video))
    return video.diff(dim=1).square().mean((1, 2, 3, 4))


def motion_ratio(video: Tensor, target: Tensor) -> Tensor:
    """The motion energy of videos over that of the targets, (B,); 1 if neither moves."""
    check_shapes(video, target)
    return (motion_energy(video) + STILL) / (motion_energy(target) + STILL)


def flicker(video: Tensor) -> Tensor:
    """Temporal flicker (B,): the mean absolute difference of frames from the mean of their two neighbours.

    0 for a clip of fewer than three frames, and for a clip that changes linearly.
    """
    if video.shape[1] < 3:
        return video.new_zeros(len(video))
    return (video[:, 1:-1] - (video[:, :-2] + video[:, 2:]) / 2).abs().mean((1, 2, 3, 4))
