"""Measures on videos: float tensors (B, T, 3, H, W) in [0, 1]; one number for each frame or clip.

Where `weights` are given, (B, T, H, W) and not negative, a measure is the weighted mean over pixels instead of the
plain one: that is how the ROI variants look at the moving region alone.
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

from roboalign.metrics.perceptual_spec import Backbone, LpipsSpec, PerceptualSpec, StLpipsSpec

CEILING = 100.0
"""PSNR in dB of equal frames, where the formula has no finite value."""

SSIM_WINDOW = 11
"""Rows and columns of SSIM's Gaussian window: frames must be at least this large."""


def _matching(video: Tensor, target: Tensor) -> None:
    """Raise ValueError unless both are (B, T, 3, H, W) of the same shape."""
    if video.shape != target.shape or video.ndim != 5 or video.shape[2] != 3:
        raise ValueError(
            f"videos must both be (B, T, 3, H, W); they are {tuple(video.shape)} and {tuple(target.shape)}"
        )


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over pixels of (B, T, H, W), by `weights` where given; plain where a frame's weights are all 0."""
    plain = values.mean((-2, -1))
    if weights is None:
        return plain
    total = weights.sum((-2, -1))
    weighted = (values * weights).sum((-2, -1)) / total.clamp(min=torch.finfo(values.dtype).tiny)
    return torch.where(total > 0, weighted, plain)


def moving_region(target: Tensor, threshold: float = 0.1, grow: int = 2) -> Tensor:
    """The region of interest, (B, T, H, W) of 0 and 1: where the target differs from its own first frame.

    A pixel belongs to it where a colour differs by more than `threshold`, or such a pixel is at most `grow` pixels off.
    """
    moved = ((target - target[:, :1]).abs().amax(2) > threshold).to(target.dtype)
    return max_pool2d(moved, 2 * grow + 1, stride=1, padding=grow)


def psnr(video: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each frame in dB, (B, T), at most CEILING."""
    _matching(video, target)
    error = _weighted_mean((video - target).square().mean(2), weights)
    return -10 * error.clamp(min=10 ** (-CEILING / 10)).log10()


def ssim(video: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Structural similarity of each frame, (B, T): Gaussian window of 11, sigma 1.5.

    Without weights the border that the window does not cover is left out, as is usual; with weights it counts.
    Raises ValueError on frames smaller than the window.
    """
    _matching(video, target)
    if min(video.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs frames of at least {SSIM_WINDOW} pixels a side; these are {video.shape[-2:]}")
    batch = video.shape[:2]
    plain, full = structural_similarity_index_measure(
        video.flatten(0, 1), target.flatten(0, 1), data_range=1.0, reduction="none", return_full_image=True
    )
    if weights is None:
        return plain.reshape(batch)
    return _weighted_mean(full.mean(1).reshape(*batch, *full.shape[2:]), weights)


PUBLISHED: dict[Backbone, tuple[str, str]] = {
    "alex": ("alexnet-owt-7be5be79.pth", "7be5be79"),
    "vgg": ("vgg16-397923af.pth", "397923af"),
    "squeeze": ("squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
}
"""torchvision's ImageNet backbones that LPIPS is defined on: file name, and the start of the file's SHA-256."""

TRUNKS: dict[Backbone, str] = {"alex": "AlexNet", "vgg": "VGG16", "squeeze": "SqueezeNet"}
"""The backbones by their names."""


@dataclass(frozen=True)
class Maps:
    """What a distance's trunk sees in a video of frames `size` (H, W): of each layer the maps (B, T, C, h, w)."""

    layers: tuple[Tensor, ...]
    size: tuple[int, int]

    @property
    def pooled_features(self) -> Tensor:
        """The last layer's features of each frame, averaged over its places, (B, T, C)."""
        return self.layers[-1].mean((-2, -1))

    def later(self, start: int) -> "Maps":
        """The maps of the frames from number `start` on."""
        return Maps(tuple(layer[:, start:] for layer in self.layers), self.size)


class Perceptual(nn.Module):
    """Perceptual distance of each frame, (B, T), lower is closer; 0 for equal frames. Frozen; `name` says which it is.

    Without `weights` it is ST-LPIPS (Ghildyal and Liu, arXiv 2207.13686), whose AlexNet weights come with the package
    stlpips-pytorch. With `weights`, a path or URI of torchvision's ImageNet weights for `backbone`, it is LPIPS.
    """

    def __init__(
        self,
        weights: str | None = None,
        sha256: str | None = None,
        backbone: Backbone = "alex",
    ) -> None:
        """Raises ValueError where the file at `weights` is not the published one, or not that of `sha256`."""
        super().__init__()
        self.name = "ST-LPIPS" if weights is None else "LPIPS"
        self.trunk = TRUNKS["alex" if weights is None else backbone]
        self.net: Any = _shift_tolerant() if weights is None else _load_published(weights, sha256, backbone)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Perceptual":
        """Stay in evaluation mode: the distance has dropout layers and must not be random."""
        return super().train(False)

    def forward(self, video: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Distances (B, T) of videos (B, T, 3, H, W)."""
        _matching(video, target)
        return self.between(self.maps(video), self.maps(target), weights)

    def maps(self, video: Tensor) -> Maps:
        """What the trunk sees in a video (B, T, 3, H, W): nearly all of the work, so take it once for several uses."""
        layers = self.net.net(self.net.scaling_layer(2 * video.flatten(0, 1) - 1))
        batch, (height, width) = video.shape[:2], video.shape[-2:]
        return Maps(tuple(layer.reshape(*batch, *layer.shape[1:]) for layer in layers), (height, width))

    def between(self, ours: Maps, theirs: Maps, weights: Tensor | None = None) -> Tensor:
        """The distances (B, T) of what was seen in two videos: the head of LPIPS, which ST-LPIPS shares."""
        total: Tensor | None = None
        for linear, one, other in zip(self.net.lins, ours.layers, theirs.layers, strict=True):
            apart = (normalize(one, dim=2) - normalize(other, dim=2)).square()
            found: Tensor = linear(apart.flatten(0, 1))
            if weights is not None:
                found = interpolate(found, ours.size, mode="bilinear", align_corners=False)
            found = _weighted_mean(found[:, 0].reshape(*apart.shape[:2], *found.shape[2:]), weights)
            total = found if total is None else total + found
        assert total is not None
        return total


def build_perceptual(spec: PerceptualSpec) -> Perceptual:
    """The perceptual distance of a spec. Raises ValueError where the weights are not the published ones."""
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
        from stlpips_pytorch import stlpips

        net: nn.Module = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    return net


def _load_published(uri: str, sha256: str | None, backbone: Backbone) -> nn.Module:
    """torchmetrics' LPIPS network on the backbone weights at `uri`, after checking their hash."""
    import fsspec
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with fsspec.open(uri, "rb") as file:
        content = file.read()
    found = hashlib.sha256(content).hexdigest()
    name, start = PUBLISHED[backbone]
    if sha256 is not None and found != sha256:
        raise ValueError(f"{uri} has the SHA-256 {found}, not {sha256}; fetch it again")
    if not found.startswith(start):
        raise ValueError(f"{uri} is not torchvision's {name} (its SHA-256 starts with {start}, not {found[:8]})")
    kept = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (Path(folder) / "checkpoints").mkdir()
        (Path(folder) / "checkpoints" / name).write_bytes(content)
        try:  # torchvision looks here before it asks the network
            torch.hub.set_dir(folder)
            net: nn.Module = LearnedPerceptualImagePatchSimilarity(backbone).net
        finally:
            torch.hub.set_dir(kept)
    return net


def repeated_frames(video: Tensor, tolerance: float = 1 / 255) -> Tensor:
    """The share of frames, (B,), that repeat the one before: mean absolute difference of at most `tolerance`.

    RLVR-World reports this share without a formula; the tolerance is our choice. Real videos repeat frames too, so
    read it beside the target's. 0 for a clip of one frame.
    """
    if video.shape[1] < 2:
        return video.new_zeros(len(video))
    return (video.diff(dim=1).abs().mean((2, 3, 4)) <= tolerance).to(video.dtype).mean(1)


STILL = 1e-7
"""Mean squared difference of a clip that does not move visibly: keeps a ratio of two such clips at 1."""


def motion_energy(video: Tensor) -> Tensor:
    """The mean square of a clip's frame differences, (B,); 0 for a clip of one frame."""
    if video.shape[1] < 2:
        return video.new_zeros(len(video))
    return video.diff(dim=1).square().mean((1, 2, 3, 4))


def motion_ratio(video: Tensor, target: Tensor) -> Tensor:
    """The energy of a clip's frame differences over the target's, (B,); 1 where neither moves."""
    _matching(video, target)
    return (motion_energy(video) + STILL) / (motion_energy(target) + STILL)


def flicker(video: Tensor) -> Tensor:
    """Temporal flicker, (B,): how far frames lie from the mean of their two neighbours, in mean absolute difference.

    0 for a clip of fewer than three frames, and for any that changes evenly.
    """
    if video.shape[1] < 3:
        return video.new_zeros(len(video))
    return (video[:, 1:-1] - (video[:, :-2] + video[:, 2:]) / 2).abs().mean((1, 2, 3, 4))
