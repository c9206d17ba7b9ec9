"""Metrics of videos (B, T, 3, H, W), float in [0, 1], with one number for each frame or clip.

With non-negative `weights` (B, T, H, W), a metric is the weighted mean over pixels. The ROI metrics use the moving
region as weights.
"""

import hashlib
import io
import tempfile
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, normalize
from torchmetrics.functional.image import structural_similarity_index_measure

from roboalign.errors import require_extra
from roboalign.metrics.perceptual_spec import Backbone, LpipsSpec, PerceptualSpec, StLpipsSpec

CEILING = 100.0
"""Maximum PSNR in dB, used for equal frames, whose PSNR is infinite."""

SSIM_WINDOW = 11
"""Size of SSIM's Gaussian window in pixels, which is the minimum size of frames."""


def _check_shapes(video: Tensor, target: Tensor) -> None:
    """Raise ValueError unless both are (B, T, 3, H, W) with equal shapes."""
    if video.shape != target.shape or video.ndim != 5 or video.shape[2] != 3:
        raise ValueError(
            f"videos must both be (B, T, 3, H, W); they are {tuple(video.shape)} and {tuple(target.shape)}"
        )


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
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
    _check_shapes(video, target)
    error = _weighted_mean((video - target).square().mean(2), weights)
    return -10 * error.clamp(min=10 ** (-CEILING / 10)).log10()


def ssim(video: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Structural similarity (B, T) of each frame, with a Gaussian window of 11 pixels and sigma 1.5.

    Without weights, the border that the window does not cover is excluded, as usual; with weights it is included.
    Raises ValueError if frames are smaller than the window.
    """
    _check_shapes(video, target)
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
    return _weighted_mean(full.mean(1).reshape(*batch, *full.shape[2:]), weights)


PUBLISHED: dict[Backbone, tuple[str, str]] = {
    "alex": ("alexnet-owt-7be5be79.pth", "7be5be79"),
    "vgg": ("vgg16-397923af.pth", "397923af"),
    "squeeze": ("squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
}
"""torchvision's ImageNet weights for LPIPS: file name, and the first eight digits of the file's SHA-256."""

TRUNKS: dict[Backbone, str] = {"alex": "AlexNet", "vgg": "VGG16", "squeeze": "SqueezeNet"}
"""Names of the backbones in metrics files."""


@dataclass(frozen=True)
class Maps:
    """Feature maps of a perceptual distance's trunk: (B, T, C, h, w) for each layer, for frames of `size` (H, W)."""

    layers: tuple[Tensor, ...]
    size: tuple[int, int]

    @property
    def pooled_features(self) -> Tensor:
        """Features (B, T, C) of the last layer, averaged over each frame."""
        return self.layers[-1].mean((-2, -1))

    def later(self, start: int) -> "Maps":
        """The maps of frames `start` and later."""
        return Maps(tuple(layer[:, start:] for layer in self.layers), self.size)


class Perceptual(nn.Module):
    """A frozen perceptual distance (B, T) of each frame; 0 for equal frames, lower is closer.

    Without `weights` it is ST-LPIPS (Ghildyal and Liu, arXiv 2207.13686), whose AlexNet weights are part of the package
    stlpips-pytorch. With `weights`, it is LPIPS. `name` tells which.
    """

    def __init__(
        self,
        weights: str | None = None,
        sha256: str | None = None,
        backbone: Backbone = "alex",
    ) -> None:
        """Load the network.

        Args:
            weights: Path or URI of torchvision's ImageNet weights of `backbone`; None for ST-LPIPS.
            sha256: Required SHA-256 of the file; None checks the published first digits only.
            backbone: The backbone of LPIPS.

        Raises:
            ValueError: The file has another SHA-256.
        """
        super().__init__()
        self.name = "ST-LPIPS" if weights is None else "LPIPS"
        self.trunk = TRUNKS["alex" if weights is None else backbone]
        self.net: Any = _shift_tolerant() if weights is None else _load_published(weights, sha256, backbone)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Perceptual":
        """Stay in evaluation mode, because the network has dropout layers and the distance must not be random."""
        return super().train(False)

    def forward(self, video: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Distances (B, T) between videos (B, T, 3, H, W)."""
        _check_shapes(video, target)
        return self.between(self.maps(video), self.maps(target), weights)

    def maps(self, video: Tensor) -> Maps:
        """Feature maps of videos (B, T, 3, H, W). They take most of the time; compute them once and reuse them."""
        layers = self.net.net(self.net.scaling_layer(2 * video.flatten(0, 1) - 1))
        batch, (height, width) = video.shape[:2], video.shape[-2:]
        return Maps(tuple(layer.reshape(*batch, *layer.shape[1:]) for layer in layers), (height, width))

    def between(self, left: Maps, right: Maps, weights: Tensor | None = None) -> Tensor:
        """Distances (B, T) between the feature maps of two videos, by the head that LPIPS and ST-LPIPS share."""
        total: Tensor | None = None
        for linear, a, b in zip(self.net.lins, left.layers, right.layers, strict=True):
            difference = (normalize(a, dim=2) - normalize(b, dim=2)).square()
            distance: Tensor = linear(difference.flatten(0, 1))
            if weights is not None:
                distance = interpolate(distance, left.size, mode="bilinear", align_corners=False)
            distance = _weighted_mean(distance[:, 0].reshape(*difference.shape[:2], *distance.shape[2:]), weights)
            total = distance if total is None else total + distance
        assert total is not None
        return total


def build_perceptual(spec: PerceptualSpec) -> Perceptual:
    """Build the perceptual distance of a spec. Raises ValueError if the weights are not the published ones."""
    match spec:
        case StLpipsSpec():
            return Perceptual()
        case LpipsSpec():
            return Perceptual(spec.weights, spec.sha256, spec.backbone)
        case _:
            assert_never(spec)


def _shift_tolerant() -> nn.Module:
    """The ST-LPIPS network of the package stlpips-pytorch."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with require_extra("stlpips", "evaluation.perceptual.kind st_lpips"):
            from stlpips_pytorch import stlpips

        net: nn.Module = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    return net


def _load_published(uri: str, sha256: str | None, backbone: Backbone) -> nn.Module:
    """torchmetrics' LPIPS network with the backbone weights at `uri`. Raises ValueError if their hash is wrong."""
    import fsspec
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with fsspec.open(uri, "rb") as file:
        content = file.read()
    digest = hashlib.sha256(content).hexdigest()
    name, start = PUBLISHED[backbone]
    if sha256 is not None and digest != sha256:
        raise ValueError(f"{uri} has the SHA-256 {digest}, not {sha256}; download it again")
    if not digest.startswith(start):
        raise ValueError(
            f"{uri} is not torchvision's {name}: its SHA-256 starts with {digest[:8]}, not {start}; download {name}"
        )
    previous = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (Path(folder) / "checkpoints").mkdir()
        (Path(folder) / "checkpoints" / name).write_bytes(content)
        try:  # torchvision looks into this folder before it downloads a file
            torch.hub.set_dir(folder)
            net: nn.Module = LearnedPerceptualImagePatchSimilarity(backbone).net
        finally:
            torch.hub.set_dir(previous)
    return net


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
    _check_shapes(video, target)
    return (motion_energy(video) + STILL) / (motion_energy(target) + STILL)


def flicker(video: Tensor) -> Tensor:
    """Temporal flicker (B,): the mean absolute difference of frames from the mean of their two neighbours.

    0 for a clip of fewer than three frames, and for a clip that changes linearly.
    """
    if video.shape[1] < 3:
        return video.new_zeros(len(video))
    return (video[:, 1:-1] - (video[:, :-2] + video[:, 2:]) / 2).abs().mean((1, 2, 3, 4))
