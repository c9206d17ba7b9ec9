"""How close rollouts come to the true future: by frame, by episode, with intervals."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.evaluation.statistics import bootstrap, paired
from roboalign.evaluation.video import moving_region, psnr, ssim
from roboalign.types import Json

Floats = NDArray[np.float64]

Distance = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A perceptual distance: (video, target, weights or None) -> (B, T)."""

DIFFERENCES = ("psnr", "ssim", "perceptual", "roi_perceptual")
"""The measures that are compared between decodings."""


@torch.no_grad()
def measures(video: Tensor, truth: Tensor, distance: Distance, batch: int) -> dict[str, Floats]:
    """Each measure of each predicted frame, (N, F). Videos are (N, 1 + F, 3, H, W); the context frame is left out.

    `roi_perceptual` weighs the region that moves in the true future.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in DIFFERENCES}
    for ours, theirs in zip(torch.split(video, batch), torch.split(truth, batch), strict=True):
        region = moving_region(theirs)[:, 1:]
        ours, theirs = ours[:, 1:], theirs[:, 1:]
        parts["psnr"].append(psnr(ours, theirs))
        parts["ssim"].append(ssim(ours, theirs))
        parts["perceptual"].append(distance(ours, theirs, None))
        parts["roi_perceptual"].append(distance(ours, theirs, region))
    return {name: torch.cat(values).double().cpu().numpy() for name, values in parts.items()}


def summary(values: Mapping[str, Floats]) -> dict[str, Json]:
    """The mean over frames of each measure, with its interval over episodes."""
    return {name: bootstrap(frames.mean(1)).json() for name, frames in values.items()}


def difference(values: Mapping[str, Floats], base: Mapping[str, Floats]) -> dict[str, Json]:
    """The mean over frames of each measure less that of `base`, paired by episode, with its interval."""
    return {name: paired(values[name].mean(1), base[name].mean(1)).json() for name in DIFFERENCES}


def curve(name: str, values: Mapping[str, Floats]) -> list[dict[str, object]]:
    """One row a frame: the mean of each measure over episodes."""
    frames = next(iter(values.values())).shape[1]
    return [
        {"frame": frame + 1, "model": name, **{key: float(array[:, frame].mean()) for key, array in values.items()}}
        for frame in range(frames)
    ]
