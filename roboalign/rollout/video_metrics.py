"""Metrics of rollouts against the true future: by frame, by episode, with intervals."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.metrics.perceptual_distance import Maps
from roboalign.metrics.statistics import bootstrap, paired_difference, ratio
from roboalign.metrics.video import STILL, flicker, motion_energy, moving_region, psnr, repeated_frames, ssim
from roboalign.types import Json
from roboalign.video import to_float

CURVE_DRAWS = 1000
"""Bootstrap draws for the interval at each frame of a curve (our choice); tables use more."""

Floats = NDArray[np.float64]


class Distance(Protocol):
    """A perceptual distance in two steps, so that the feature maps of a video are computed once for several metrics."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def maps(self, video: Tensor, /) -> Maps:
        """The feature maps of a video (B, T, 3, H, W)."""
        ...

    def between(self, ours: Maps, theirs: Maps, weights: Tensor | None, /) -> Tensor:
        """The distance of each frame, (B, T), weighted by pixel if `weights` are given."""
        ...


class SetDistance(Protocol):
    """A distance of a set of clips to the true ones, accumulated batch by batch."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def features(self, video: Tensor, maps: Maps, /) -> Tensor:
        """Features of each frame."""
        ...

    def update(self, features: Tensor, /) -> None:
        """Add the features of a batch."""
        ...

    def compute(self) -> Mapping[str, float]:
        """The distances of the features added so far, by name."""
        ...


@torch.no_grad()
def video_metrics(
    video: Tensor,
    truth: Tensor,
    distance: Distance | None,
    every: int,
    batch: int,
    whole: SetDistance | None = None,
    device: torch.device | None = None,
) -> dict[str, Floats]:
    """`psnr` of each predicted frame, (N, F), and the other measures of every `every`-th, (N, F // every).

    Videos are (N, 1 + F, 3, H, W), float or uint8; `batch` of them at a time are converted to float on the `device`, by
    default where they are. The context frame is left out. `roi_perceptual` weighs the region that moves in the
    true future. Without a `distance` there is no perceptual measure. `whole` takes the same frames in, the context
    frame before them.
    """
    parts: dict[str, list[Tensor]] = {}
    for rows in zip(torch.split(video, batch), torch.split(truth, batch), strict=True):
        ours, theirs = (to_float(each.to(device or each.device)) for each in rows)
        found = {"psnr": psnr(ours[:, 1:], theirs[:, 1:])}
        region = moving_region(theirs)[:, every::every]
        ours, theirs = ours[:, ::every], theirs[:, every::every]
        found["ssim"] = ssim(ours[:, 1:], theirs)
        if distance is not None:
            seen, target = distance.maps(ours), distance.maps(theirs)
            if whole is not None:
                whole.update(whole.features(ours, seen))
            found["perceptual"] = distance.between(seen.later(1), target, None)
            found["roi_perceptual"] = distance.between(seen.later(1), target, region)
        for name, values in found.items():
            parts.setdefault(name, []).append(values)
    return to_arrays(parts)


@torch.no_grad()
def temporal_metrics(video: Tensor, batch: int, device: torch.device | None = None) -> dict[str, Floats]:
    """`flicker`, `repeated_frames` and `motion` (the mean square of frame differences) of each clip, (N,).

    Videos as in `video_metrics`. Of the predicted frames alone: the step from the given frame to the first predicted
    one is the codec's.
    """
    parts: dict[str, list[Tensor]] = {}
    for rows in torch.split(video, batch):
        clips = to_float(rows.to(device or rows.device))[:, 1:]
        for name, values in (
            ("flicker", flicker(clips)),
            ("repeated_frames", repeated_frames(clips)),
            ("motion", motion_energy(clips)),
        ):
            parts.setdefault(name, []).append(values)
    return to_arrays(parts)


def to_arrays(parts: Mapping[str, list[Tensor]]) -> dict[str, Floats]:
    """Concatenate the values of all batches, with one transfer from the device for each metric."""
    return {name: torch.cat(values).double().cpu().numpy() for name, values in parts.items()}


def summarize_temporal(values: Mapping[str, Floats], truth: Mapping[str, Floats]) -> dict[str, Json]:
    """The mean of each measure of `temporal_metrics`, and `motion_ratio`, the motion over that of the true future."""
    result: dict[str, Any] = {name: bootstrap(values[name]).json() for name in ("flicker", "repeated_frames")}
    return result | {"motion_ratio": ratio(values["motion"] + STILL, truth["motion"] + STILL).json()}


def summarize(values: Mapping[str, Floats]) -> dict[str, Json]:
    """The mean over frames of each measure, with its interval over episodes."""
    return {name: bootstrap(frames.mean(1)).json() for name, frames in values.items()}


def paired_differences(values: Mapping[str, Floats], base: Mapping[str, Floats]) -> dict[str, Json]:
    """The mean over frames of each measure less that of `base`, paired by episode, with its interval."""
    return {name: paired_difference(values[name].mean(1), base[name].mean(1)).json() for name in values if name in base}


def metric_curve(name: str, values: Mapping[str, Floats], every: int) -> list[dict[str, object]]:
    """One row a frame: the mean over episodes of each measure that was taken there, and its 95 % interval in
    `<measure>_low` and `<measure>_high`; `every` as in `video_metrics`."""
    frames = values["psnr"].shape[1]
    rows: list[dict[str, object]] = [{"frame": frame, "model": name} for frame in range(1, frames + 1)]
    for key, array in values.items():
        stride = 1 if key == "psnr" else every
        for place, (mean, low, high) in enumerate(frame_intervals(array), 1):
            rows[place * stride - 1] |= {key: mean, f"{key}_low": low, f"{key}_high": high}
    return rows


def frame_intervals(values: Floats) -> list[tuple[float, float, float]]:
    """The mean over episodes of values (N, F) at each frame, and the bounds of its 95 % interval."""
    found = [bootstrap(column, CURVE_DRAWS) for column in values.T]
    return [(one.mean, one.low, one.high) for one in found]
