"""The features and the dimension of the Fréchet distance. No default is from the paper."""

from typing import Annotated, Literal

from pydantic import Field

from roboalign.metrics.perceptual_spec import Sha256, Uri
from roboalign.spec.base import Seed, Spec


class PerceptualFeaturesSpec(Spec):
    """The last layer of the perceptual distance's feature maps, averaged over the frame; shares its computation."""

    kind: Literal["perceptual"]


class TimmFeaturesSpec(Spec):
    """The pooled features of a timm image model; frames are resized to its input size."""

    kind: Literal["timm"]
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$", max_length=200)]
    """Name of a timm model."""
    weights: Uri | None = None
    """A safetensors file with the model's weights. null uses random weights with a fixed seed, which the distance's
    name tells."""
    sha256: Sha256 | None = None
    """Required SHA-256 of the file; null does not check it."""


FeaturesSpec = Annotated[PerceptualFeaturesSpec | TimmFeaturesSpec, Field(discriminator="kind")]
"""The features of a frame, distinguished by `kind`."""


class FrechetSpec(Spec):
    """The Fréchet distance between a set of clips and the true clips. It is not FID or FVD, which use other
    features."""

    features: FeaturesSpec = PerceptualFeaturesSpec(kind="perceptual")
    """The features of a frame."""
    dimension: Annotated[int, Field(ge=1, le=4096)] = 8
    """Dimension to which features are projected at random. A covariance needs more samples than dimensions, so more
    than twice as many measured frames are needed. Distances with different dimensions, seeds or features cannot be
    compared."""
    seed: Seed = 0
    """Seed of the projection."""

    @property
    def samples(self) -> int:
        """Minimum number of measured frames: one more than the dimensions of features and changes together."""
        return 2 * self.dimension + 1
