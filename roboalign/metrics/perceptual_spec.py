"""Which perceptual distance every stage takes: the loss of the tokenizer, the reward, and all measurements."""

from typing import Annotated, Literal

from pydantic import Field

from roboalign.spec.base import Spec

Backbone = Literal["alex", "vgg", "squeeze"]
"""A backbone that LPIPS is defined on."""

Uri = Annotated[str, Field(min_length=1, max_length=1000)]
"""A path or any fsspec URI of a file."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A file's SHA-256."""


class StLpipsSpec(Spec):
    """ST-LPIPS (Ghildyal and Liu, arXiv 2207.13686): its AlexNet weights come with the package stlpips-pytorch."""

    kind: Literal["st_lpips"]


class LpipsSpec(Spec):
    """LPIPS as published (paper): torchvision's ImageNet weights of a backbone, which no package carries."""

    kind: Literal["lpips"]
    backbone: Backbone = "alex"
    """The backbone; the distances of different ones cannot be compared."""
    weights: Uri
    """Where torchvision's file lies: alexnet-owt-7be5be79.pth, vgg16-397923af.pth or squeezenet1_1-b8a52dc0.pth. It
    is refused where its SHA-256 does not start as its name ends."""
    sha256: Sha256 | None = None
    """The whole SHA-256 that the file must have; null checks its start alone."""


PerceptualSpec = Annotated[StLpipsSpec | LpipsSpec, Field(discriminator="kind")]
"""The perceptual distance, told apart by `kind`; metrics carry its name."""
