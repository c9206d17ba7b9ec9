"""Laying specs over one another without losing where each value came from."""

from dataclasses import dataclass

from roboalign.spec.document import Entry, Mapping, Mark, Node, Scalar, Sequence


def merge(base: Node, over: Node) -> Node:
    """`over` laid over `base`: mappings key by key; anything else, lists too, is replaced whole.

    A mapping that names another `kind` replaces the one below: the fields of one kind mean nothing to another.
    """
    if isinstance(base, Sequence) and isinstance(over, Mapping) and over.entries:
        return by_number(base, over)
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    if "kind" in over.entries and kind(over) != kind(base):
        return over
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        entries[key] = entry if below is None else Entry(entry.key, merge(below.value, entry.value))
    return Mapping(entries, base.mark)


def by_number(base: Sequence, over: Mapping) -> Node:
    """A list with single items replaced (`set: {reward.dimensions.0.weight: 2}`); otherwise `over` alone."""
    items = list(base.items)
    for key, entry in over.entries.items():
        if not key.isdecimal() or len(key) > 4 or int(key) >= len(items):
            return over
        items[int(key)] = merge(items[int(key)], entry.value)
    return Sequence(tuple(items), base.mark)


def kind(node: Mapping) -> object:
    """The value of the key `kind`."""
    entry = node.entries.get("kind")
    return entry.value.value if entry and isinstance(entry.value, Scalar) else None


def expand_dotted(node: Mapping) -> Mapping:
    """Dotted keys as nested mappings: `{rl.measure.seed: 9}` becomes `{rl: {measure: {seed: 9}}}`.

    Each segment keeps its own column. Only the outermost level may be dotted; later keys win over earlier ones.
    """
    result: Node = Mapping({}, node.mark)
    for key, entry in node.entries.items():
        segments = key.split(".")
        marks, column = [], entry.key.column
        plain_key = entry.key.end_column - entry.key.column == len(key)
        for segment in segments:
            line, end = entry.key.line, column + len(segment)
            marks.append(Mark(entry.key.source, line, column, line, end) if plain_key else entry.key)
            column = end + 1
        value = entry.value
        for segment, mark in zip(reversed(segments), reversed(marks), strict=True):
            value = Mapping({segment: Entry(mark, value)}, mark)
        result = merged_over(result, value)
    assert isinstance(result, Mapping)
    return result


def merged_over(base: Node, over: Node) -> Node:
    """Like `merged`, but never letting one key of `set` replace its neighbours because of `kind`."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        entries[key] = entry if below is None else Entry(below.key, merged_over(below.value, entry.value))
    return Mapping(entries, base.mark)


@dataclass(frozen=True, slots=True)
class Place:
    """A node and the key that leads to it (None at the root and within lists)."""

    node: Node
    key: Mark | None = None

    @property
    def label(self) -> Mark:
        """Where to point when something about the whole node is wrong: its key, or the node's first line."""
        if self.key is not None:
            return self.key
        mark = self.node.mark
        return Mark(mark.source, mark.line, mark.column, mark.line, mark.column + 1)

    @property
    def value(self) -> Mark:
        """Where to point when the value is wrong: the value, or its key where it is empty or a block of lines."""
        mark = self.node.mark
        one_line = mark.line == mark.end_line and mark.column < mark.end_column
        return mark if one_line or self.key is None else self.key


def child(node: Node, step: str | int) -> Place | None:
    """The place one step further down, or None where the files hold nothing there."""
    if isinstance(node, Mapping) and (entry := node.entries.get(str(step))) is not None:
        return Place(entry.value, entry.key)
    if isinstance(node, Sequence) and str(step).isdecimal() and int(step) < len(node.items):
        return Place(node.items[int(step)])
    return None


def locate(node: Node, path: str) -> tuple[Place, str]:
    """The place that the dotted `path` leads to, or the last place on the way, with the rest of the path."""
    place, steps = Place(node), path.split(".") if path else []
    while steps and (further := child(place.node, steps[0])) is not None:
        place, steps = further, steps[1:]
    return place, ".".join(steps)
