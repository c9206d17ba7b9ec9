"""The section with the resolved spec, whose lines are anchors that figures link to."""

from collections.abc import Iterator, Mapping

import yaml

from roboalign.report.blocks import Prose, Section, SpecLine, SpecText
from roboalign.report.inputs import Inputs

TEXT = (
    "The values that this run used, with all defaults, one part of the experiment each. To change one, set it in "
    "params.yaml under `set:`, or for one run by dvc exp run -S '++set.<field>=<value>'. Links below tables and charts "
    "lead here."
)


def spec_listing(inputs: Inputs) -> Section:
    """The resolved sections by name; empty without any."""
    blocks = [SpecText(name, spec_lines(text)) for name, text in sorted(inputs.spec_text.items())]
    return Section("spec", "Resolved spec", [Prose([TEXT]), *blocks] if blocks else [])


def spec_lines(text: str) -> list[SpecLine]:
    """The lines of a resolved section with the field that starts on each.

    Args:
        text: A YAML document in block style, such as `rollout:\\n  horizon: 30\\n`.
    """
    lines = text.rstrip("\n").split("\n")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    fields = {} if root is None else dict(reversed(list(_fields(root, ()))))
    return [SpecLine(line, fields.get(number, "")) for number, line in enumerate(lines)]


def _fields(node: yaml.Node, path: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, field) of each key and item below a node, parents before their children."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*path, str(key.value))
            yield key.start_mark.line, ".".join(below)
            yield from _fields(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _fields(item, (*path, str(number)))


def known_fields(spec_text: Mapping[str, str]) -> set[str]:
    """The fields of all sections that have a line of their own."""
    return {line.field for text in spec_text.values() for line in spec_lines(text) if line.field}
