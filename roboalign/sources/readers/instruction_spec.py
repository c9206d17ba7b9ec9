"""How the instruction of an episode is named or stated."""

import re
import string
from typing import Annotated, Self

from pydantic import Field, model_validator

from roboalign.spec.base import FieldError, Spec

Key = Annotated[str, Field(min_length=1, max_length=200)]
"""A column of a data set; parts of nested ones are joined by `/`."""

Pattern = Annotated[str, Field(min_length=1, max_length=500)]
"""A regular expression of Python's `re`."""


def refuse_bad_pattern(field: str, pattern: str | None) -> None:
    """Raise FieldError at `field` if the text is not a regular expression."""
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise FieldError(field, f"'{pattern}' is not a regular expression: {error}") from None


class InstructionSpec(Spec):
    """An instruction that no field of the data set holds as it is: a literal text, or parts of a field.

    `{text: lift the cube}` states it for all episodes. `{field: file, pattern: '(?P<task>[^/]+)_demo'}` takes what the
    pattern's named groups find in a field; with `text: "{verb} the {object}"` it is put together from them.
    """

    text: Annotated[str, Field(max_length=500)] = ""
    """The instruction. With `pattern`, `{name}` stands for what the group of that name finds; empty joins all groups,
    in their order, by blanks."""
    field: Key | None = None
    """The field to look in: whatever `instruction` could name, or an attribute."""
    pattern: Pattern | None = None
    """A regular expression with named groups, `(?P<name>…)`, of which the first match counts. Underscores in what they
    find become blanks."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        refuse_bad_pattern("pattern", self.pattern)
        if self.pattern is None:
            if self.field is not None:
                raise FieldError("field", f"field needs a pattern to look for; to take all of it: `{self.field}` alone")
            if not self.text.strip():
                raise FieldError("text", "text is empty; write the instruction, or give field and pattern")
            return self
        if self.field is None:
            raise FieldError("pattern", "pattern needs the field to look in; set field too")
        groups = re.compile(self.pattern).groupindex
        if not groups:
            raise FieldError("pattern", "pattern has no named group; put (?P<name> ) around each part that counts")
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None]
        except ValueError as error:
            raise FieldError("text", f"'{self.text}' cannot be filled in: {error}") from None
        unknown = [name for name in names if name not in groups]
        if unknown:
            raise FieldError("text", f"text names {{{unknown[0]}}}; the groups of pattern are: {', '.join(groups)}")
        return self


Instruction = Key | InstructionSpec
"""The field that holds the instruction, or how it is stated."""
