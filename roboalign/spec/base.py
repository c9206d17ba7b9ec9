"""The base class of every spec, and the field types that specs share.

A spec is one frozen Pydantic model. It rejects unknown keys, accepts each scalar only in its own type (the text
`"1e-4"` is not a number), bounds its numbers, and documents every field in a docstring below it. This module is the
lowest of the package and imports nothing from it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=64)]
"""A lower-case identifier: the name of a source, a dimension, a decoding."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above 0."""

Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""A random seed, in [0, 2^31)."""

Split = Literal["train", "validation", "test"]
"""`train` is used to fit models, `validation` to choose thresholds and recipes, `test` only for evaluation."""

Policy = Literal["expert", "noisy_expert", "wrong_goal", "random", "unknown"]
"""The policy that chose the actions of an episode; `unknown` for recordings of real robots."""
PROPRIOCEPTION_NAMES = ("gripper_x", "gripper_y", "gripper_z", "opening")
"""Columns of a simulator state that the robot itself can measure: its proprioception."""


def items(minimum: int = 1, maximum: int = 64) -> Any:
    """A Pydantic field for a tuple that YAML writes as a list, with `minimum` to `maximum` items."""
    return Field(strict=False, min_length=minimum, max_length=maximum)


class Spec(BaseModel):
    """Base of all specs: frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,
        validate_default=True,
        hide_input_in_errors=True,
    )


class FieldError(ValueError):
    """Raised by a validator that rejects one field because of the values of others.

    `field` is the dotted path from the validated spec to the field that the user should change (`window`,
    `decodings.swr.window`, `levels.0`). The error is reported at that field's line.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
