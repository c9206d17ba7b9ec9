"""The perceptual distance of all stages: the tokenizer's loss, the reward, and all measurements."""

from typing import Annotated, Literal

from pydantic import Field

from roboalign.spec.base import Spec

Backbone = Literal["alex", "vgg", "squeeze"]
"""A backbone for which LPIPS weights are published."""

Uri = Annotated[str, Field(min_length=1, max_length=1000)]
"""A path or any fsspec URI of a file."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""The SHA-256 of a file, in hexadecimal."""


class HaarPsiSpec(Spec):
    """1 - HaarPSI (Reisenhofer et al., 2018, arXiv 1607.06140), from Haar wavelets; needs no trained weights."""

    kind: Literal["haarpsi"]


class StLpipsSpec(Spec):
    """ST-LPIPS (Ghildyal and Liu, arXiv 2207.13686). Its AlexNet weights are part of the package stlpips-pytorch
    (extra `stlpips`)."""

    kind: Literal["st_lpips"]


class LpipsSpec(Spec):
    """LPIPS as published (paper), with torchvision's ImageNet weights of a backbone, which are not in any package."""

    kind: Literal["lpips"]
    backbone: Backbone = "alex"
    """The backbone. Distances with different backbones cannot be compared."""
    weights: Uri
    """Path or URI of torchvision's file alexnet-owt-7be5be79.pth, vgg16-397923af.pth or squeezenet1_1-b8a52dc0.pth. Its
    SHA-256 must start with the eight digits of its name."""
    sha256: Sha256 | None = None
    """Required SHA-256 of the file; null checks the first eight digits only."""


PerceptualSpec = Annotated[HaarPsiSpec | StLpipsSpec | LpipsSpec, Field(discriminator="kind")]
"""The perceptual distance, distinguished by `kind`; metrics files name it."""
