"""What every source declares: its splits, and between which quantiles its actions are scaled."""

from typing import Annotated

from pydantic import Field, model_validator

from roboalign.spec.base import FieldError, Fraction, Spec

Quantile = Annotated[float, Field(ge=0, lt=0.5)]
"""A share of the values that lies below a bound, and as much above another."""


class SplitSpec(Spec):
    """Shares of the episodes, split by initial scene."""

    train: Fraction = 0.8
    """Fits models."""
    validation: Fraction = 0.05
    """Picks thresholds."""
    test: Fraction = 0.15
    """Is only ever evaluated on."""

    @model_validator(mode="after")
    def _adds_up(self) -> "SplitSpec":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise FieldError("train", f"train, validation and test add up to {total:g}, not to 1")
        return self
