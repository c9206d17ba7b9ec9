"""The base class of every spec, and the few field types that specs share.

A spec is one frozen Pydantic model. It refuses unknown keys, takes each scalar only in its own type (the text
`"1e-4"` is not a number), bounds its numbers, and documents every field in a docstring below it. This module is the
lowest floor of the package and imports nothing of it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=64)]
"""A lower-case identifier: the name of a source, a dimension, a decoding."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A share between 0 and 1."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number above 0."""

Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""A random seed."""


Split = Literal["train", "validation", "test"]
"""`train` fits models, `validation` picks thresholds, `test` is only ever evaluated on."""

Policy = Literal["expert", "noisy_expert", "wrong_goal", "random", "unknown"]
"""Who chose the actions of an episode; `unknown` for recorded real robots."""


def items(minimum: int = 1, maximum: int = 64) -> Any:
    """The field of a tuple that YAML writes as a list, with `minimum` to `maximum` items."""
    return Field(strict=False, min_length=minimum, max_length=maximum)


class Spec(BaseModel):
    """Base of all specs: frozen, strict, closed, documented."""

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
    """What a validator raises to refuse one field for the value of others: the error points at that field's line.

    `field` is the path from the validated spec, with dots (`window`, `decodings.swr.window`, `levels.0`); the field to
    change, not necessarily the one that was read last.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
