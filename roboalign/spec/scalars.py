"""The values of plain YAML scalars by YAML 1.2's core schema, as DVC reads them.

DVC reads params.yaml and the sections with ruamel.yaml (YAML 1.2). PyYAML follows YAML 1.1, which reads `no` as False,
`1e-4` as text and `010` as 8. RoboAlign and DVC must see the same value, so the patterns here are DVC's. Scalars that
DVC reads as a type that no spec has (dates, merge keys), or cannot read, are rejected.
"""

import re

Value = str | int | float | bool | None
"""A scalar's value."""

NULL = re.compile(r"~|null|Null|NULL|")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9_]+)")
FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9_]+(?:[eE][-+][0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:.*")
LONGEST = 200
"""Maximum length of a number in characters."""


class ScalarError(ValueError):
    """A scalar that is rejected; the message says why and what to write instead."""


def resolve(text: str) -> Value:
    """The value of the plain (unquoted) scalar `text`. Raises ScalarError if YAML readers do not agree on it."""
    first = text[:1]
    if NULL.fullmatch(text):
        return None
    if first in "tTfF" and BOOL.fullmatch(text):
        return text[0] in "tT"
    if first in "-+.0123456789":
        if DATE.fullmatch(text):
            raise ScalarError(f"'{text}' is a date to some readers of YAML; put it in quotes")
        if FLOAT.fullmatch(text):
            return number(text)
        if INT.fullmatch(text) and first != "_":
            return number(text)
    if text in ("<<", "="):
        raise ScalarError(f"'{text}' has a special meaning to some readers of YAML; put it in quotes")
    return text


def number(text: str) -> int | float:
    """The number that `text`, which matches INT or FLOAT, denotes; `010` is ten, as in YAML 1.2."""
    if len(text) > LONGEST:
        raise ScalarError(f"a number of {len(text)} characters; at most {LONGEST} are read")
    digits = text.replace("_", "").lower()
    sign, digits = (-1 if digits.startswith("-") else 1), digits.lstrip("+-")
    try:
        if digits == ".inf":
            return sign * float("inf")
        if digits == ".nan":
            return float("nan")
        if INT.fullmatch(text):
            base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 10)
            whole = sign * int(digits[2:] if base != 10 else digits, base)
        else:
            return sign * float(digits)
    except ValueError:
        raise ScalarError(f"'{text}' looks like a number but is not one; put it in quotes if it is text") from None
    if len(str(whole)) > LONGEST:  # `compose` writes it in decimal, and the sections are read again
        raise ScalarError(f"a number of {len(str(whole))} digits; at most {LONGEST} are read")
    return whole
