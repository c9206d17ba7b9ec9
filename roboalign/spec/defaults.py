"""The default objects that a value of `set` changes a field of, which files need not write out."""

from typing import Any

from pydantic_core import to_jsonable_python

from roboalign.spec.document import Entry, Mapping, Mark, Node, Scalar, Sequence
from roboalign.spec.merge import child
from roboalign.spec.validation import bare, inner, is_spec, member, union


def write_out_defaults(node: Node, over: Node, kind: Any) -> Node:
    """A node with those default objects that `over` changes fields of.

    So `set: {probe.judge.outcome.hidden_size: 96}` keeps the other fields of the default `outcome`, as it would if the
    file had written them out.

    Args:
        node: The node of the file.
        over: The values that will be merged over it.
        kind: The type of the node: a spec class, a union of them, or a mapping or tuple of these.
    """
    if not isinstance(node, Mapping) or not isinstance(over, Mapping):
        return node
    kind, entries = _class_of(node, kind), dict(node.entries)
    for key, entry in over.entries.items():
        if not isinstance(entry.value, Mapping):
            continue
        below = entries.get(key)
        if below is None:
            default = _default(kind, key)
            if default is None:
                continue
            below = Entry(entry.key, _to_node(default, entry.key))
        entries[key] = Entry(below.key, write_out_defaults(below.value, entry.value, inner(kind, key)))
    return Mapping(entries, node.mark)


def _class_of(node: Mapping, kind: Any) -> Any:
    """The type of a node: of a union, the member that the node's discriminator names, or Any."""
    kind, tag = bare(kind)
    if not (members := union(kind)):
        return kind
    place = None if tag is None else child(node, tag)
    return member(members, tag, str(place.node.value)) if place and isinstance(place.node, Scalar) else Any


def _default(kind: Any, key: str) -> dict[str, Any] | None:
    """The default of a field as plain data, if it is an object or a mapping; otherwise None."""
    field = kind.model_fields.get(key) if is_spec(kind) else None
    if field is None or field.is_required():
        return None
    value = to_jsonable_python(field.get_default(call_default_factory=True, validated_data={}))
    return value if isinstance(value, dict) else None


def _to_node(value: Any, mark: Mark) -> Node:
    """Plain data as a node; errors about it point to `mark`."""
    if isinstance(value, dict):
        return Mapping({str(key): Entry(mark, _to_node(item, mark)) for key, item in value.items()}, mark)
    if isinstance(value, list):
        return Sequence(tuple(_to_node(item, mark) for item in value), mark)
    return Scalar(value, mark)
