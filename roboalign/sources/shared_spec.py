"""Fields that every source declares: splits, and the quantiles of the action range."""

from typing import Annotated

from pydantic import Field, model_validator

from roboalign.spec.base import FieldError, Fraction, Spec

Quantile = Annotated[float, Field(ge=0, lt=0.5)]
"""Fraction of the values below the lower bound, and of those above the upper bound."""


class SplitSpec(Spec):
    """Fractions of the episodes in each split, which is assigned by initial scene."""

    train: Fraction = 0.8
    """Fraction of the episodes in the training split."""
    validation: Fraction = 0.05
    """Fraction in the validation split, used for model selection and thresholds."""
    test: Fraction = 0.15
    """Fraction in the test split, used only for evaluation."""

    @model_validator(mode="after")
    def _adds_up(self) -> "SplitSpec":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise FieldError("train", f"train, validation and test add up to {total:g}, not to 1")
        return self
