"""The Fréchet distance: on which features, in how many dimensions."""

from typing import Annotated, Literal

from pydantic import Field

from roboalign.metrics.perceptual_spec import Sha256, Uri
from roboalign.spec.base import Seed, Spec


class PerceptualFeaturesSpec(Spec):
    """The last layer of the perceptual distance's own trunk, averaged over the frame; costs nothing besides it."""

    kind: Literal["perceptual"]


class TimmFeaturesSpec(Spec):
    """The pooled features of a timm image model, frames resized to its input."""

    kind: Literal["timm"]
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$", max_length=200)]
    """Name of a timm model."""
    weights: Uri | None = None
    """A safetensors file of the model's weights; null draws them at random from a fixed seed, and the name of the
    distance says so."""
    sha256: Sha256 | None = None
    """The SHA-256 that the file must have; null takes any."""


FeaturesSpec = Annotated[PerceptualFeaturesSpec | TimmFeaturesSpec, Field(discriminator="kind")]
"""Features of a frame, told apart by `kind`."""


class FrechetSpec(Spec):
    """The Fréchet distance of a set of clips to the true ones: neither FID nor FVD, whose features are others'."""

    features: FeaturesSpec = PerceptualFeaturesSpec(kind="perceptual")
    """The features."""
    dimension: Annotated[int, Field(ge=1, le=4096)] = 8
    """Features are projected at random to so many dimensions, because a covariance needs more samples than it has
    dimensions: more than twice as many measured frames as this are needed (our choice). Distances of different
    dimensions, seeds or features cannot be compared."""
    seed: Seed = 0
    """Seed of the projection."""

    @property
    def samples(self) -> int:
        """The fewest measured frames: one more than the dimensions of a frame's features with their change."""
        return 2 * self.dimension + 1
