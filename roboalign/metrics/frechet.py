"""The Fréchet distance between sets of clips and the true clips, computed batch by batch on any device.

A Gaussian is fitted to the features of all frames of a set; the distance is that between two Gaussians (Dowson and
Landau, 1982; computed by torchmetrics). There are two distances. `frechet` uses the features of single frames, so it
detects blur, noise and wrong appearance, but not a wrong order. `frechet_motion` appends the change of the features
since the previous measured frame, so it also detects frozen and shuffled clips. The change is scaled to the same total
variance in the true clips as the features.

With few frames the distance is biased upwards, and frames of one episode are correlated. Compare only distances of the
same scenes with the same features, dimension and seed.
"""

import hashlib
import math
from collections.abc import Iterable
from typing import Any, assert_never

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchmetrics.image.fid import FrechetInceptionDistance

from roboalign import checkpoint
from roboalign.metrics.frechet_spec import FrechetSpec, PerceptualFeaturesSpec, TimmFeaturesSpec
from roboalign.metrics.perceptual_distance import Maps, PerceptualDistance
from roboalign.video import to_float


class TimmFeatures(nn.Module):
    """The pooled features of a frozen timm image model; `name` tells the model and whether its weights are random."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, spec: TimmFeaturesSpec) -> None:
        """Build the model. Raises ValueError for an unknown model, CheckpointError for weights that do not fit."""
        super().__init__()
        import timm  # imported here because it takes seconds

        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            try:
                self.net: Any = timm.create_model(spec.model, pretrained=False, num_classes=0)
            except RuntimeError as error:
                raise ValueError(f"timm has no model {spec.model} ({error}); see timm.list_models()") from None
        self.name = spec.model
        if spec.weights is None:
            self.name += " with random weights"
        else:
            _load(self.net, spec.weights, spec.sha256)
        config: Any = self.net.pretrained_cfg
        self.size: tuple[int, int] = tuple(config["input_size"][1:])
        self.register_buffer("mean", torch.tensor(config["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(config["std"]).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, video: Tensor) -> Tensor:
        """Features (B, T, C) of videos (B, T, 3, H, W) in [0, 1]."""
        frames = interpolate(video.flatten(0, 1), self.size, mode="bilinear", antialias=True, align_corners=False)
        features: Tensor = self.net((frames - self.mean) / self.deviation)
        return features.reshape(*video.shape[:2], -1)


def _load(net: Any, uri: str, sha256: str | None) -> None:
    """Load safetensors weights, without those of the classifier.

    Raises CheckpointError, as `checkpoint.load_into` does for files of our own.
    """
    import fsspec
    import safetensors.torch

    with fsspec.open(uri, "rb") as file:
        content = file.read()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise checkpoint.CheckpointError(f"{uri} has the SHA-256 {found}, not {sha256}; download it again")
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise checkpoint.CheckpointError(f"{uri}: cannot be read ({error}); it must be a safetensors file") from None
    classifier = net.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
    # Some published files are without the counters of batch normalisation, which nothing reads in evaluation mode.
    wanted = {
        name: tensor
        for name, tensor in net.state_dict().items()
        if name in kept or not name.endswith("num_batches_tracked")
    }
    remedy = "evaluation.frechet.features.weights must be this model's weights as timm publishes them"
    checkpoint.check_weights(uri, kept, wanted, remedy)
    net.load_state_dict(kept, strict=False)


class _Identity(nn.Module):
    """The feature network for torchmetrics: features are computed outside, once for both distances."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


class Frechet:
    """Computes both distances between sets of clips and the true clips, one set after another.

    Call `reference` once, then for each set `update` with each batch, and `compute`.
    """

    def __init__(self, spec: FrechetSpec, perceptual: PerceptualDistance) -> None:
        """Build the feature network; features of kind `perceptual` are those of `perceptual`."""
        self.spec, self.perceptual = spec, perceptual
        self.net: TimmFeatures | None
        match spec.features:
            case PerceptualFeaturesSpec():
                self.net, self.name = None, f"{perceptual.features_name} features"
            case TimmFeaturesSpec():
                self.net = TimmFeatures(spec.features)
                self.name = f"{self.net.name} features"
            case _:
                assert_never(spec.features)
        self.name = f"Fréchet distance on {self.name}"
        self._projection: Tensor | None = None
        self._metrics: dict[str, FrechetInceptionDistance] = {}
        self._scale = torch.ones(())

    @torch.no_grad()
    def features(self, video: Tensor, maps: Maps | None = None) -> Tensor:
        """Projected features (B, T, dimension) of videos (B, T, 3, H, W); `maps` are the trunk's outputs if known."""
        wide: Tensor
        if self.net is not None:
            wide = self.net.to(video.device)(video)
        else:
            wide = (maps or self.perceptual.maps(video)).pooled_features
        if self._projection is None:
            self._projection = projection(wide.shape[-1], self.spec).to(wide)
        return wide @ self._projection

    @torch.no_grad()
    def reference(self, videos: Iterable[Tensor]) -> None:
        """Fit the Gaussians of the true clips, batches (B, 1 + F, 3, H, W). Each first frame only yields the change.

        Raises ValueError if there are too few frames for the spec's dimension.
        """
        features = torch.cat([self.features(video) for video in videos])
        count = features[:, 1:].flatten(0, 1).shape[0]
        if count < self.spec.samples:
            raise ValueError(
                f"a Fréchet distance in {self.spec.dimension} dimensions of features and as many of their changes "
                f"needs at least {self.spec.samples} measured frames, and there are {count}; lower "
                "evaluation.frechet.dimension, raise rollout.episodes or lower rollout.measured_every, or set "
                "evaluation.frechet to null"
            )
        changes = features.diff(dim=1)
        variance, change_variance = (part.double().flatten(0, 1).var(0).sum() for part in (features[:, 1:], changes))
        self._scale = (variance / change_variance).sqrt() if change_variance > 0 else torch.ones_like(variance)
        self._metrics = {
            name: FrechetInceptionDistance(_Identity(width), reset_real_features=False, normalize=True)
            for name, width in (("frechet", self.spec.dimension), ("frechet_motion", 2 * self.spec.dimension))
        }
        for metric in self._metrics.values():
            metric.to(features.device)
        self._update(features, real=True)

    def update(self, features: Tensor) -> None:
        """Add a batch of the current set: `features` (B, 1 + F, dimension) of its frames, the context frame first."""
        self._update(features, real=False)

    def _update(self, features: Tensor, real: bool) -> None:
        frames, changes = features[:, 1:].double(), features.diff(dim=1).double()
        self._metrics["frechet"].update(frames.flatten(0, 1), real=real)
        with_changes = torch.cat([frames, changes * self._scale], -1)
        self._metrics["frechet_motion"].update(with_changes.flatten(0, 1), real=real)

    def compute(self) -> dict[str, float]:
        """Return `frechet` and `frechet_motion` of the current set, and begin the next set.

        Raises ValueError if the set has too few frames.
        """
        count = int(self._metrics["frechet"].fake_features_num_samples)
        if count < self.spec.samples:
            raise ValueError(f"a Fréchet distance needs {self.spec.samples} frames, and this set has {count}")
        # Rounding errors can make the distance of equal sets negative.
        distances = {name: max(0.0, float(metric.compute())) for name, metric in self._metrics.items()}
        for metric in self._metrics.values():
            metric.reset()
        return distances


def between_halves(
    spec: FrechetSpec, perceptual: PerceptualDistance, truth: Tensor, batch: int, device: torch.device | None = None
) -> dict[str, float]:
    """The distances between two halves of the true clips, a baseline for other scenes and few frames.

    Args:
        spec: Features and dimension.
        perceptual: The perceptual distance whose trunk may be used.
        truth: True clips (N, 1 + F, 3, H, W), float or uint8; even ones are compared with odd ones.
        batch: Clips processed at once.
        device: The device on which they are processed; by default where they are.

    Returns:
        The distances by name; empty if half of the clips have too few frames.
    """
    even, odd = truth[::2], truth[1::2]
    if len(odd) * (truth.shape[1] - 1) < spec.samples:
        return {}
    frechet = Frechet(spec, perceptual)
    frechet.reference(to_float(part.to(device or part.device)) for part in torch.split(even, batch))
    for part in torch.split(odd, batch):
        frechet.update(frechet.features(to_float(part.to(device or part.device))))
    return frechet.compute()


def projection(width: int, spec: FrechetSpec) -> Tensor:
    """A random projection (width, dimension) that preserves squared lengths in expectation."""
    generator = torch.Generator().manual_seed(spec.seed)
    matrix = torch.randn(width, spec.dimension, generator=generator, dtype=torch.float64)
    return matrix / math.sqrt(spec.dimension)
