"""Spec of the instruction: the field that contains it, a literal text, or a pattern."""

import re
import string
from typing import Annotated, Self

from pydantic import Field, model_validator

from roboalign.spec.base import FieldError, Spec

Key = Annotated[str, Field(min_length=1, max_length=200)]
"""A column of a data set; nested names are joined by `/`."""

Pattern = Annotated[str, Field(min_length=1, max_length=500)]
"""A regular expression of Python's `re`."""


def refuse_bad_pattern(field: str, pattern: str | None) -> None:
    """Raise FieldError at `field` if the text is not a regular expression."""
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise FieldError(field, f"'{pattern}' is not a regular expression: {error}") from None


class InstructionSpec(Spec):
    """An instruction that is not a field of the data set: a literal text, or a text extracted from a field.

    `{text: lift the cube}` gives all episodes the same instruction. `{field: file, pattern: '(?P<task>[^/]+)_demo'}`
    extracts the named groups of a pattern from a field; with `text: "{verb} the {object}"` they are inserted into a
    template.
    """

    text: Annotated[str, Field(max_length=500)] = ""
    """The instruction. With `pattern`, `{name}` is replaced by the named group; if empty, all groups are joined by
    spaces in their order."""
    field: Key | None = None
    """Field that the pattern is applied to: any field that `instruction` can name, or an attribute."""
    pattern: Pattern | None = None
    """A regular expression with named groups, `(?P<name>…)`; the first match is used. Underscores in the groups become
    spaces."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        refuse_bad_pattern("pattern", self.pattern)
        if self.pattern is None:
            if self.field is not None:
                raise FieldError("field", f"field needs a pattern; to use the whole field, write `{self.field}` alone")
            if not self.text.strip():
                raise FieldError("text", "text is empty; write the instruction, or give field and pattern")
            return self
        if self.field is None:
            raise FieldError("pattern", "pattern needs a field; set field too")
        groups = re.compile(self.pattern).groupindex
        if not groups:
            raise FieldError("pattern", "pattern has no named group; put (?P<name> ) around each part to extract")
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None]
        except ValueError as error:
            raise FieldError("text", f"'{self.text}' cannot be filled in: {error}") from None
        unknown = [name for name in names if name not in groups]
        if unknown:
            raise FieldError("text", f"text names {{{unknown[0]}}}; the groups of pattern are: {', '.join(groups)}")
        return self


Instruction = Key | InstructionSpec
"""The field that contains the instruction, or an InstructionSpec."""
