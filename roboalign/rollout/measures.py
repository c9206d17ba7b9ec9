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


@torch.no_grad()
def measures(video: Tensor, truth: Tensor, distance: Distance | None, every: int, batch: int) -> dict[str, Floats]:
    """`psnr` of each predicted frame, (N, F), and the other measures of every `every`-th, (N, F // every).

    Videos are (N, 1 + F, 3, H, W); the context frame is left out. `roi_perceptual` weighs the region that moves in the
    true future. Without a `distance` there is no perceptual measure.
    """
    parts: dict[str, list[Tensor]] = {}
    for ours, theirs in zip(torch.split(video, batch), torch.split(truth, batch), strict=True):
        found = {"psnr": psnr(ours[:, 1:], theirs[:, 1:])}
        region = moving_region(theirs)[:, every::every]
        ours, theirs = ours[:, every::every], theirs[:, every::every]
        found["ssim"] = ssim(ours, theirs)
        if distance is not None:
            found["perceptual"] = distance(ours, theirs, None)
            found["roi_perceptual"] = distance(ours, theirs, region)
        for name, values in found.items():
            parts.setdefault(name, []).append(values)
    return {name: torch.cat(values).double().cpu().numpy() for name, values in parts.items()}


def summary(values: Mapping[str, Floats]) -> dict[str, Json]:
    """The mean over frames of each measure, with its interval over episodes."""
    return {name: bootstrap(frames.mean(1)).json() for name, frames in values.items()}


def difference(values: Mapping[str, Floats], base: Mapping[str, Floats]) -> dict[str, Json]:
    """The mean over frames of each measure less that of `base`, paired by episode, with its interval."""
    return {name: paired(values[name].mean(1), base[name].mean(1)).json() for name in values if name in base}


def curve(name: str, values: Mapping[str, Floats], every: int) -> list[dict[str, object]]:
    """One row a frame: the mean over episodes of each measure that was taken there; `every` as in `measures`."""
    frames = values["psnr"].shape[1]
    rows: list[dict[str, object]] = [{"frame": frame, "model": name} for frame in range(1, frames + 1)]
    for key, array in values.items():
        stride = 1 if key == "psnr" else every
        for place, mean in enumerate(array.mean(0), 1):
            rows[place * stride - 1][key] = float(mean)
    return rows
