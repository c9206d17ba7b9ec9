"""The Fréchet distance of sets of clips to the true ones, streamed batch by batch on any device.

To each set a Gaussian is fitted over features of its frames, and the distance is that between the Gaussians (Dowson
and Landau, 1982; torchmetrics computes it). Two are taken. `frechet` sees single frames: blur, noise and things that
look wrong, but not their order. `frechet_motion` sees the features of a frame with their change since the measured
frame before it, the change scaled to vary as much in the true clips as the features do: frozen and shuffled clips show.

On few frames the distance is biased upwards, and frames of one episode are alike: compare sets of the same scenes,
under the same features, dimension and seed, and no others.
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
from roboalign.metrics.video import Maps, Perceptual


class TimmFeatures(nn.Module):
    """The pooled features of a timm image model; `name` says which, and whether its weights are random. Frozen."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, spec: TimmFeaturesSpec) -> None:
        """Raises ValueError for an unknown model, CheckpointError for weights that are damaged or not its own."""
        super().__init__()
        import timm  # here, because it takes seconds

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
        """Features (B, T, C) of a video (B, T, 3, H, W)."""
        frames = interpolate(video.flatten(0, 1), self.size, mode="bilinear", antialias=True, align_corners=False)
        features: Tensor = self.net((frames - self.mean) / self.deviation)
        return features.reshape(*video.shape[:2], -1)


def _load(net: Any, uri: str, sha256: str | None) -> None:
    """Load safetensors weights; those of the classifier, which the network is without, are passed over.

    Raises CheckpointError, as `checkpoint.load_into` does for files of our own.
    """
    import fsspec
    import safetensors.torch

    with fsspec.open(uri, "rb") as file:
        content = file.read()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise checkpoint.CheckpointError(f"{uri} has the SHA-256 {found}, not {sha256}; fetch it again")
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


class _Given(nn.Module):
    """Hands the features on: they are made outside, once for both distances."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


class Frechet:
    """Both distances of one set of clips after another to the same true clips.

    `reference` comes first; then `update` for each batch of a set, and `compute`, which begins the next set.
    """

    def __init__(self, spec: FrechetSpec, perceptual: Perceptual) -> None:
        """`perceptual` lends its trunk, where the spec's features are its own."""
        self.spec, self.perceptual = spec, perceptual
        self.net: TimmFeatures | None
        match spec.features:
            case PerceptualFeaturesSpec():
                self.net, self.name = None, f"{perceptual.name} {perceptual.trunk} features"
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
        """Projected features (B, T, dimension) of a video (B, T, 3, H, W); `maps` spares the trunk where it has run."""
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
        """Take in the true clips (B, 1 + F, 3, H, W), in batches; the first frame gives changes, and is not counted.

        Raises ValueError where they have too few frames for the spec's dimensions.
        """
        features = torch.cat([self.features(video) for video in videos])
        count = features[:, 1:].flatten(0, 1).shape[0]
        if count < self.spec.samples:
            raise ValueError(
                f"a Fréchet distance in {self.spec.dimension} dimensions, with as many of change, needs at least "
                f"{self.spec.samples} measured frames, and there are {count}; lower evaluation.frechet.dimension, "
                "raise rollout.episodes or lower rollout.measured_every, or set evaluation.frechet to null"
            )
        now = features[:, 1:]
        spread, moved = (part.double().flatten(0, 1).var(0).sum() for part in (now, features.diff(dim=1)))
        self._scale = (spread / moved).sqrt() if moved > 0 else torch.ones_like(spread)
        self._metrics = {
            name: FrechetInceptionDistance(_Given(width), reset_real_features=False, normalize=True)
            for name, width in (("frechet", self.spec.dimension), ("frechet_motion", 2 * self.spec.dimension))
        }
        for metric in self._metrics.values():
            metric.to(features.device)
        self._take(features, real=True)

    def update(self, features: Tensor) -> None:
        """Take in a batch of a set: `features` of its frames, (B, 1 + F, dimension), the given frame first."""
        self._take(features, real=False)

    def _take(self, features: Tensor, real: bool) -> None:
        now, change = features[:, 1:].double(), features.diff(dim=1).double()
        self._metrics["frechet"].update(now.flatten(0, 1), real=real)
        moving = torch.cat([now, change * self._scale], -1)
        self._metrics["frechet_motion"].update(moving.flatten(0, 1), real=real)

    def compute(self) -> dict[str, float]:
        """`frechet` and `frechet_motion` of the set that was taken in; the next one begins.

        Raises ValueError where it had too few frames.
        """
        count = int(self._metrics["frechet"].fake_features_num_samples)
        if count < self.spec.samples:
            raise ValueError(f"a Fréchet distance needs {self.spec.samples} frames, and this set has {count}")
        # Rounding may leave equal sets a hair below 0.
        found = {name: max(0.0, float(metric.compute())) for name, metric in self._metrics.items()}
        for metric in self._metrics.values():
            metric.reset()
        return found


def between_halves(spec: FrechetSpec, perceptual: Perceptual, truth: Tensor, batch: int) -> dict[str, float]:
    """The distances of every second true clip to the others: what other scenes and few frames alone come to.

    Empty where half of the clips (N, 1 + F, 3, H, W) have too few frames for the spec.
    """
    one, other = truth[::2], truth[1::2]
    if len(other) * (truth.shape[1] - 1) < spec.samples:
        return {}
    made = Frechet(spec, perceptual)
    made.reference(torch.split(one, batch))
    for part in torch.split(other, batch):
        made.update(made.features(part))
    return made.compute()


def projection(width: int, spec: FrechetSpec) -> Tensor:
    """The random projection, (width, dimension): it keeps squared lengths in the mean."""
    generator = torch.Generator().manual_seed(spec.seed)
    matrix = torch.randn(width, spec.dimension, generator=generator, dtype=torch.float64)
    return matrix / math.sqrt(spec.dimension)
