"""Merges specs, keeping the file and line of each value."""

from dataclasses import dataclass

from roboalign.spec.document import Entry, Mapping, Mark, Node, Scalar, Sequence


def merge(base: Node, over: Node) -> Node:
    """Lay `over` over `base`: mappings are merged key by key, all other values and lists are replaced.

    A mapping with another `kind` than the one below replaces it, because kinds do not share fields. A mapping of
    numbers over a list replaces single items.
    """
    if isinstance(base, Sequence) and isinstance(over, Mapping) and over.entries:
        return replace_items(base, over)
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    if "kind" in over.entries and kind(over) != kind(base):
        return over
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        entries[key] = entry if below is None else Entry(entry.key, merge(below.value, entry.value))
    return Mapping(entries, base.mark)


def replace_items(base: Sequence, over: Mapping) -> Node:
    """A list with items merged by number (`set: {tokenizer.widths.0: 32}`); `over` if a key is not an item's number."""
    items = list(base.items)
    for key, entry in over.entries.items():
        if not key.isdecimal() or len(key) > 4 or int(key) >= len(items):
            return over
        items[int(key)] = merge(items[int(key)], entry.value)
    return Sequence(tuple(items), base.mark)


def kind(node: Mapping) -> object:
    """The value of the key `kind`, or None."""
    entry = node.entries.get("kind")
    return entry.value.value if entry and isinstance(entry.value, Scalar) else None


def expand_dotted(node: Mapping) -> Mapping:
    """Expand dotted keys into nested mappings: `{rl.measure.seed: 9}` becomes `{rl: {measure: {seed: 9}}}`.

    Each segment has its own columns as mark. Only keys of the outermost level are expanded; later keys override
    earlier ones.
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
        result = merge_keys(result, value)
    assert isinstance(result, Mapping)
    return result


def merge_keys(base: Node, over: Node) -> Node:
    """Like `merge`, but a mapping with another `kind` is merged too, so that one key of `set` keeps the others."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        entries[key] = entry if below is None else Entry(below.key, merge_keys(below.value, entry.value))
    return Mapping(entries, base.mark)


@dataclass(frozen=True, slots=True)
class Place:
    """A node and the mark of its key (None at the root and in lists)."""

    node: Node
    key: Mark | None = None

    @property
    def label(self) -> Mark:
        """The mark for errors about the whole node: its key, or the node's first character."""
        if self.key is not None:
            return self.key
        mark = self.node.mark
        return Mark(mark.source, mark.line, mark.column, mark.line, mark.column + 1)

    @property
    def value(self) -> Mark:
        """The mark for errors about the value: the value, or its key if the value is empty or has several lines."""
        mark = self.node.mark
        one_line = mark.line == mark.end_line and mark.column < mark.end_column
        return mark if one_line or self.key is None else self.key


def child(node: Node, step: str | int) -> Place | None:
    """The place of the key or item `step` of a node, or None if the node does not have it."""
    if isinstance(node, Mapping) and (entry := node.entries.get(str(step))) is not None:
        return Place(entry.value, entry.key)
    if isinstance(node, Sequence) and str(step).isdecimal() and int(step) < len(node.items):
        return Place(node.items[int(step)])
    return None


def locate(node: Node, path: str) -> tuple[Place, str]:
    """The place at the dotted `path` and '', or the last place on the way and the rest of the path."""
    place, steps = Place(node), path.split(".") if path else []
    while steps and (further := child(place.node, steps[0])) is not None:
        place, steps = further, steps[1:]
    return place, ".".join(steps)
