"""LPIPS with published weights, and ST-LPIPS with those of a package."""

import hashlib
import io
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from roboalign.errors import require_extra
from roboalign.metrics.perceptual_distance import Maps, PerceptualDistance
from roboalign.metrics.perceptual_spec import Backbone
from roboalign.metrics.video import weighted_mean

PUBLISHED: dict[Backbone, tuple[str, str]] = {
    "alex": ("alexnet-owt-7be5be79.pth", "7be5be79"),
    "vgg": ("vgg16-397923af.pth", "397923af"),
    "squeeze": ("squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
}
"""torchvision's ImageNet weights for LPIPS: file name, and the first eight digits of the file's SHA-256."""

TRUNKS: dict[Backbone, str] = {"alex": "AlexNet", "vgg": "VGG16", "squeeze": "SqueezeNet"}
"""Names of the backbones in metrics files."""


class Lpips(PerceptualDistance):
    """LPIPS (Zhang et al., arXiv 1801.03924) or ST-LPIPS: differences of a network's features.

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
        self.features_name = f"{self.name} {TRUNKS['alex' if weights is None else backbone]}"
        self.net: Any = _shift_tolerant() if weights is None else _load_published(weights, sha256, backbone)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Lpips":
        """Stay in evaluation mode, because the network has dropout layers and the distance must not be random."""
        return super().train(False)

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
            distance = weighted_mean(distance[:, 0].reshape(*difference.shape[:2], *distance.shape[2:]), weights)
            total = distance if total is None else total + distance
        assert total is not None
        return total


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
