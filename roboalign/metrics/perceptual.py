"""Builds the perceptual distance of a spec."""

from typing import assert_never

from roboalign.metrics.haarpsi import HaarPsi
from roboalign.metrics.lpips import Lpips
from roboalign.metrics.perceptual_distance import PerceptualDistance
from roboalign.metrics.perceptual_spec import HaarPsiSpec, LpipsSpec, PerceptualSpec, StLpipsSpec


def build_perceptual(spec: PerceptualSpec) -> PerceptualDistance:
    """Build the perceptual distance of a spec. Raises ValueError if the weights are not the published ones."""
    match spec:
        case HaarPsiSpec():
            return HaarPsi()
        case StLpipsSpec():
            return Lpips()
        case LpipsSpec():
            return Lpips(spec.weights, spec.sha256, spec.backbone)
        case _:
            assert_never(spec)
