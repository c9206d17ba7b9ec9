"""The interface of perceptual distances: feature maps of frames, and a distance between the maps."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from roboalign.metrics.video import check_shapes


@dataclass(frozen=True)
class Maps:
    """Feature maps of a perceptual distance: (B, T, C, h, w) for each layer, for frames of `size` (H, W)."""

    layers: tuple[Tensor, ...]
    size: tuple[int, int]

    @property
    def pooled_features(self) -> Tensor:
        """Features (B, T, C) of the last layer, averaged over each frame."""
        return self.layers[-1].mean((-2, -1))

    def later(self, start: int) -> "Maps":
        """The maps of frames `start` and later."""
        return Maps(tuple(layer[:, start:] for layer in self.layers), self.size)


class PerceptualDistance(nn.Module, ABC):
    """A frozen perceptual distance (B, T) of each frame; 0 for equal frames, lower is closer."""

    name: str
    """Name in metrics files."""
    features_name: str
    """Name of the pooled features in metrics files."""

    def forward(self, video: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Distances (B, T) between videos (B, T, 3, H, W) in [0, 1]; `weights` (B, T, H, W) weigh the pixels."""
        check_shapes(video, target)
        return self.between(self.maps(video), self.maps(target), weights)

    @abstractmethod
    def maps(self, video: Tensor) -> Maps:
        """Feature maps of videos (B, T, 3, H, W). They take most of the time; compute them once and reuse them."""

    @abstractmethod
    def between(self, left: Maps, right: Maps, weights: Tensor | None = None) -> Tensor:
        """Distances (B, T) between the feature maps of two videos."""
