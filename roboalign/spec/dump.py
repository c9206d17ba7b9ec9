"""Writing YAML that every reader reads the same: YAML 1.1's (PyYAML) and YAML 1.2's (DVC's ruamel.yaml)."""

import re
from typing import Any

import yaml

from roboalign.spec.scalars import BOOL, FLOAT, INT


class Dumper(yaml.SafeDumper):
    """PyYAML's dumper, which also quotes text that only YAML 1.2 would take for something else, such as `1e-4`."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write repeated values out: a section is read by people and compared by line."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists below their key."""
        super().increase_indent(flow, False)


def text(dumper: Dumper, value: str) -> yaml.ScalarNode:
    """Text, with escapes where it holds what a reader could take for the end of a line."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, '"' if not value.isprintable() else None)


Dumper.add_representer(str, text)
for _tag, _pattern, _first in (
    ("bool", BOOL, "tTfF"),
    ("float", FLOAT, "-+.0123456789"),
    ("int", INT, "-+0123456789"),
):
    Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern.pattern})$"), list(_first))


def dump(value: Any) -> str:
    """`value` (dicts, lists, text, numbers, booleans, None) as YAML text; the same bytes for the same value.

    Raises yaml.representer.RepresenterError for anything else.
    """
    return _dump(value, False)


def flow(value: Any) -> str:
    """`value` on one line: `[a, b]`."""
    return _dump(value, True).removesuffix("\n").removesuffix("\n...")


def _dump(value: Any, on_one_line: bool) -> str:
    return yaml.dump(
        value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1, default_flow_style=on_one_line
    )
