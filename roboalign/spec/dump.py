"""Writes YAML that YAML 1.1 readers (PyYAML) and YAML 1.2 readers (DVC's ruamel.yaml) read as the same values."""

import re
from typing import Any

import yaml

from roboalign.spec.scalars import BOOL, FLOAT, INT


class Dumper(yaml.SafeDumper):
    """PyYAML's dumper, which also quotes text that YAML 1.2 alone would read as another type, such as `1e-4`."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write repeated values in full, because people read sections and DVC compares them by value."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists below their key."""
        super().increase_indent(flow, False)


def text(dumper: Dumper, value: str) -> yaml.ScalarNode:
    """A text scalar; in double quotes with escapes if it contains characters that are not printable."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, '"' if not value.isprintable() else None)


Dumper.add_representer(str, text)
for _tag, _pattern, _first in (
    ("bool", BOOL, "tTfF"),
    ("float", FLOAT, "-+.0123456789"),
    ("int", INT, "-+0123456789"),
):
    Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern.pattern})$"), list(_first))


def dump(value: Any) -> str:
    """`value` (dicts, lists, text, numbers, booleans, None) as YAML text; deterministic.

    Raises yaml.representer.RepresenterError for other types.
    """
    return _dump(value, False)


def flow(value: Any) -> str:
    """`value` as YAML on one line: `[a, b]`."""
    return _dump(value, True).removesuffix("\n").removesuffix("\n...")


def _dump(value: Any, on_one_line: bool) -> str:
    return yaml.dump(
        value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1, default_flow_style=on_one_line
    )
