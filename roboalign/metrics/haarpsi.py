"""HaarPSI, a perceptual similarity of images from Haar wavelets, which needs no trained weights.

Reisenhofer, Bosse, Kutyniok and Wiegand: A Haar wavelet-based perceptual similarity index for image quality
assessment, 2018 (arXiv 1607.06140). Images are compared by the magnitudes of their wavelet coefficients at two fine
scales and of their colours; the coefficients of a third, coarser scale tell where differences are noticed.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from roboalign.metrics.perceptual_distance import Maps, PerceptualDistance

YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""The colour space: rows are Y, I and Q in terms of R, G and B."""

SCALES = (2, 4, 8)
"""Sizes of the Haar wavelets in pixels; the last gives the weights."""

C = 30.0
"""The constant of the similarity, for colours from 0 to 255."""

ALPHA = 4.2
"""The steepness of the logistic function."""


class HaarPsi(PerceptualDistance):
    """1 - HaarPSI, from 0 to 1. It does not see a uniform change of brightness."""

    name = "1 - HaarPSI"
    features_name = "Haar wavelet"

    def maps(self, video: Tensor) -> Maps:
        """The magnitudes of wavelet coefficients, two orientations for each scale, then those of I, Q and Y:
        (B, T, 9, h, w)."""
        (batch, frames), size = video.shape[:2], (video.shape[-2], video.shape[-1])
        magnitudes = haar_magnitudes(video.flatten(0, 1))
        return Maps((magnitudes.reshape(batch, frames, *magnitudes.shape[1:]),), size)

    def between(self, left: Maps, right: Maps, weights: Tensor | None = None) -> Tensor:
        """Distances (B, T) between the magnitudes of two videos."""
        a, b = left.layers[0], right.layers[0]
        if weights is not None and weights.shape[-2:] != a.shape[-2:]:
            weights = interpolate(weights, a.shape[-2:], mode="area")
        return 1 - haarpsi(a, b, weights)


def haar_magnitudes(frames: Tensor) -> Tensor:
    """The magnitudes that HaarPSI compares, of frames at half their size.

    Args:
        frames: Colours (N, 3, H, W) in [0, 1].

    Returns:
        Magnitudes (N, 9, H / 2, W / 2) for colours from 0 to 255: those of Y's wavelets, two orientations for each
        scale, then I, Q and Y averaged over 2 x 2 pixels.
    """
    colours = torch.einsum("cr,nrhw->nchw", frames.new_tensor(YIQ), 255 * frames)
    odd = max(colours.shape[-2] % 2, colours.shape[-1] % 2)
    colours = avg_pool2d(pad(colours, (0, odd, 0, odd)), 2)
    luma, found = colours[:, :1], list[Tensor]()
    for size in SCALES:
        step = frames.new_full((size, size), 1 / size)
        step[: size // 2] *= -1
        filters = torch.stack([step, step.T]).unsqueeze(1)
        found.append(conv2d(_pad_to_same(luma, size), filters))
    found.append(avg_pool2d(_pad_to_same(colours.roll(-1, 1), 2), 2, 1))
    return torch.cat(found, 1).abs()


def haarpsi(left: Tensor, right: Tensor, weights: Tensor | None = None) -> Tensor:
    """The similarity (...) of images, 1 for equal ones, from their magnitudes (..., 9, h, w).

    `weights` (..., h, w) weigh the pixels; an image whose weights are all 0 is compared as a whole.
    """
    fine = (2 * left * right + C) / (left.square() + right.square() + C)
    coarse = torch.maximum(left[..., 4:6, :, :], right[..., 4:6, :, :])
    horizontal, vertical = fine[..., 0:4:2, :, :].mean(-3), fine[..., 1:4:2, :, :].mean(-3)
    similarity = torch.stack([horizontal, vertical, fine[..., 6:8, :, :].mean(-3)], -3)
    # A tiny weight everywhere lets an image without edges be compared, too.
    importance = torch.cat([coarse, coarse.mean(-3, keepdim=True)], -3) + 1e-4
    if weights is not None:
        is_seen = weights.sum((-2, -1), keepdim=True) > 0
        importance = importance * torch.where(is_seen, weights, torch.ones_like(weights)).unsqueeze(-3)
    pixels = (-3, -2, -1)
    # Written by its gap to equal images, so that theirs is exactly 1 in any precision.
    top = left.new_tensor(ALPHA).sigmoid()
    gap = ((top - (ALPHA * similarity).sigmoid()) * importance).sum(pixels) / importance.sum(pixels)
    logit = ALPHA + (-gap / top).log1p() - (gap / (1 - top)).log1p()
    return (logit / ALPHA).square()


def _pad_to_same(frames: Tensor, size: int) -> Tensor:
    """Zeros around frames (N, C, H, W), so that a filter of `size` pixels keeps their size."""
    before = (size - 1) // 2
    return pad(frames, (before, size - 1 - before, before, size - 1 - before))
