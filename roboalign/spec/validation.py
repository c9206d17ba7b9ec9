"""Validates nodes by spec classes, and turns every Pydantic error into a message at a line and column.

Pydantic gives the place of an error as a path of keys mixed with the tags of unions. `walk` therefore follows the path
through types and nodes together, which distinguishes the tag of a union's member from a key of the same name.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from roboalign.spec.base import FieldError
from roboalign.spec.diagnostics import SUGGESTIONS, Diagnostic, nearest
from roboalign.spec.docs import descriptions
from roboalign.spec.document import Mapping, Mark, Node, Scalar, Sequence, plain
from roboalign.spec.merge import Place, child, locate

Near = Callable[[str, Iterable[str]], str]
"""A function such as `nearest`: the candidate that a word most likely misspells, or ''."""


def validate(adapter: TypeAdapter[Any], kind: Any, node: Node) -> tuple[Any, list[Diagnostic]]:
    """Validate a node.

    Args:
        adapter: The validator of `kind`.
        kind: The type: a spec class, a union of them, or a mapping or tuple of these.
        node: The node.

    Returns the value (None if it is not valid) and the errors.
    """
    try:
        return adapter.validate_python(plain(node)), []
    except ValidationError as error:
        errors = list(explain_all(error.errors(include_url=False), kind, node))
    except RecursionError:  # pragma: no cover - depth is bounded by the document
        errors = [Diagnostic("nested too deeply", Place(node).label)]
    # A misspelled key gives two errors, an unknown and a missing key; only the first is reported.
    suggested = {d.suggestion for d in errors if d.message.startswith("unknown key")}
    return None, [d for d in errors if not (d.message.startswith("missing key") and is_misspelled(d, suggested))]


def explain_all(errors: list[ErrorDetails], kind: Any, node: Node) -> Iterator[Diagnostic]:
    """Each error as a message. Of the errors of several union members about one value, only the most helpful one."""
    of_unions: dict[Mark, Diagnostic] = {}
    counts: Counter[tuple[str | int, ...]] = Counter()
    for error in errors:
        if is_other_member(error, errors):
            continue
        parent = error["loc"][: -2 if error["loc"][-1:] == ("[key]",) else -1]
        counts[parent] += 1
        item = explain(error, kind, node, nearest if counts[parent] <= SUGGESTIONS else no_suggestion)
        if not walk(kind, node, error["loc"]).untagged:
            yield item
        elif item.mark not in of_unions or (item.suggestion and not of_unions[item.mark].suggestion):
            of_unions[item.mark] = item
    yield from of_unions.values()


def is_other_member(error: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """Whether a type error of one union member is irrelevant, because the value has another member's type and `errors`
    contains that member's error."""
    *union_loc, label = error["loc"] or ("",)
    if not error["type"].endswith("_type") or not is_member_label(label):
        return False
    depth = len(union_loc)
    return any(
        list(other["loc"][:depth]) == union_loc
        and other["loc"][depth : depth + 1] != (label,)
        and not (other["type"].endswith("_type") and len(other["loc"]) == depth + 1)
        for other in errors
    )


def is_member_label(step: str | int) -> bool:
    """Whether a step of an error's path is Pydantic's name of a member of a union that has no tag."""
    return isinstance(step, str) and step.startswith(("constrained-", "function-", "tuple["))


def is_misspelled(missing: Diagnostic, suggested: Iterable[str]) -> bool:
    """Whether the missing key, or `extends`, which could provide it, is among the suggestions for misspelled keys."""
    return any(word == "extends" or missing.message.startswith(f"missing key '{word}'") for word in suggested if word)


@dataclass(frozen=True, slots=True)
class Step:
    """The end of a walk: the type, the place, and whether the path led through a union without a discriminator."""

    kind: Any
    place: Place
    untagged: bool = False


def walk(kind: Any, node: Node, loc: tuple[str | int, ...]) -> Step:
    """Follow a Pydantic error's `loc` through the type `kind` and the node together."""
    place, untagged = Place(node), False
    steps = list(loc)
    while steps:
        kind, tag = bare(kind)
        step = steps.pop(0)
        if members := union(kind):
            kind, untagged = member(members, tag, step), untagged or tag is None
            continue
        if step == "[key]":
            break
        kind = inner(kind, step)
        below = child(place.node, step)
        if below is None:
            break
        place = below
    return Step(bare(kind)[0], place, untagged)


def bare(kind: Any) -> tuple[Any, str | None]:
    """A type without `Annotated` and `| None`, and the discriminator of its union, or None."""
    tag: str | None = None
    while True:
        if get_origin(kind) is Annotated:
            kind, *metadata = get_args(kind)
            tag = next((str(m.discriminator) for m in metadata if isinstance(m, FieldInfo) and m.discriminator), tag)
        elif members := [m for m in union(kind) if m is not NoneType]:
            if len(members) > 1:
                return kind, tag
            kind = members[0]
        else:
            return kind, tag


def union(kind: Any) -> tuple[Any, ...]:
    """The members of a union; () for any other type."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else ()


def member(members: tuple[Any, ...], tag: str | None, step: str | int) -> Any:
    """The union member that Pydantic labels `step`, by the value of its discriminator or by its class name; Any if
    there is none."""
    for candidate in members:
        kind, _ = bare(candidate)
        if tag is not None and is_spec(kind) and step in get_args(kind.model_fields[tag].annotation):
            return kind
        name = getattr(kind, "__name__", None)
        if tag is None and (step == name or str(step).endswith(f", {name}]")):
            return kind
    return Any


def inner(kind: Any, step: str | int) -> Any:
    """The type of the field, item or mapping value `step` of `kind`; Any if unknown."""
    if is_spec(kind):
        field = kind.model_fields.get(str(step))
        if field is None:
            return Any
        return Annotated[field.annotation, field] if field.discriminator else field.annotation
    arguments = get_args(kind)
    match get_origin(kind):
        case origin if origin is dict:
            return arguments[1]
        case origin if origin is tuple and isinstance(step, int):
            return arguments[0] if arguments[-1] is ... else (*arguments, *([Any] * (step + 1)))[step]
        case _:
            return Any


def is_spec(kind: Any) -> bool:
    """Whether `kind` is a Pydantic model class."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def no_suggestion(word: str, candidates: Iterable[str]) -> str:
    """A `Near` function that never suggests a word."""
    return ""


def explain(error: ErrorDetails, kind: Any, node: Node, near: Near = nearest) -> Diagnostic:
    """Convert one Pydantic error into a message at its place.

    Args:
        error: The error.
        kind: The type that was validated.
        node: The node that was validated.
        near: Finds a suggestion for a wrong word.
    """
    loc, context = error["loc"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return unknown_key(walk(kind, node, loc[:-1]), str(loc[-1]), near)
        case "missing" if loc and isinstance(loc[-1], str):
            step = walk(kind, node, loc[:-1])
            return Diagnostic(f"missing key '{loc[-1]}'{describe_field(step.kind, loc[-1])}", step.place.label)
        case "missing" if loc:
            step = walk(kind, node, loc[:-1])
            actual_count, count = len(plain(step.place.node)), len(get_args(step.kind))
            return Diagnostic(f"{quote_key(loc[:-1])}must have {count} items, not {actual_count}", step.place.value)
        case "union_tag_not_found":
            return no_tag(walk(kind, node, loc), context)
        case "union_tag_invalid":
            place = walk(kind, node, loc).place
            tag = child(place.node, str(context["discriminator"]).strip("'")) or place
            choices = words(str(context["expected_tags"]))
            return choice(str(context["tag"]), choices, tag.value, near)
        case "value_error" if isinstance(context.get("error"), FieldError):
            step = walk(kind, node, loc)
            place, rest = locate(step.place.node, context["error"].field)
            if rest and place.key is None:
                place = Place(place.node, step.place.key)
            return Diagnostic(str(context["error"]), place.label if rest else place.value)
    step = walk(kind, node, loc)
    if loc and loc[-1] == "[key]":
        choices = words(str(context.get("expected", "")))
        name = str(loc[-2])
        below = child(walk(kind, node, loc[:-2]).place.node, name)
        mark = (below or step.place).label
        if error["type"] == "literal_error":
            suggestion = near(name, choices)
            return Diagnostic(f"unknown key '{name}'{one_of(suggestion, choices)}", mark, suggestion)
        return Diagnostic(f"the name '{name}' {reason(error, name)}", mark)
    value = plain(step.place.node)
    if error["type"] == "value_error":
        return Diagnostic(f"{quote_key(loc).rstrip(' ,')}: {context.get('error')}".removeprefix(": "), step.place.value)
    if error["type"] == "literal_error":
        return choice(value, words(str(context["expected"])), step.place.value, near)
    return Diagnostic(f"{quote_key(loc)}{reason(error, value, step.place.node)}", step.place.value)


def quote_key(loc: tuple[str | int, ...]) -> str:
    """The last key of a path as the subject of a message: `'key' ` or `'key', item 2, `."""
    keys = [step for step in loc if isinstance(step, str) and not is_member_label(step)]
    item = f", item {loc[-1] + 1}," if loc and isinstance(loc[-1], int) else ""
    return f"'{keys[-1]}'{item} " if keys else ""


def unknown_key(step: Step, key: str, near: Near) -> Diagnostic:
    """The error for a key that the spec class does not have."""
    fields = list(step.kind.model_fields) if is_spec(step.kind) else []
    present = step.place.node.entries if isinstance(step.place.node, Mapping) else {}
    below = child(step.place.node, key)
    mark = below.label if below else step.place.label
    free = [field for field in fields if field not in present]
    if step.place.key is None and "extends" not in present:
        free.append("extends")
    suggestion = near(key, free) or near(key, fields)
    known = "" if suggestion or not fields or near is no_suggestion else f"; known keys: {', '.join(fields)}"
    return Diagnostic(f"unknown key '{key}'{known}", mark, suggestion)


def no_tag(step: Step, context: dict[str, Any]) -> Diagnostic:
    """The error for a mapping without its union's discriminator, such as `kind`."""
    tag = str(context["discriminator"]).strip("'")
    node = step.place.node
    if not isinstance(node, Mapping):
        return Diagnostic(f"expected a mapping with the key '{tag}', not {show_value(plain(node))}", step.place.value)
    for key, entry in node.entries.items():
        if nearest(key, [tag]):
            return Diagnostic(f"unknown key '{key}'", entry.key, tag)
    choices = [value for m in union(step.kind) for value in tags(m, tag)]
    return Diagnostic(f"missing key '{tag}'; it is one of {', '.join(choices)}", step.place.label)


def tags(kind: Any, tag: str) -> Iterator[str]:
    """The values that the discriminator `tag` may have in the union member `kind`."""
    kind, _ = bare(kind)
    if is_spec(kind) and tag in kind.model_fields:
        yield from (str(value) for value in get_args(kind.model_fields[tag].annotation))


def describe_field(kind: Any, key: str) -> str:
    """The first sentence of a field's docstring in parentheses; '' if it has none."""
    text = descriptions(kind).get(key, "") if is_spec(kind) else ""
    text = text.split("\n\n")[0].split(". ")[0].strip().rstrip(".")
    return f" ({' '.join(text.split())})" if text else ""


def choice(value: Any, choices: list[str], mark: Mark, near: Near) -> Diagnostic:
    """The error for a value that is not one of the allowed ones."""
    suggestion = near(value, choices) if isinstance(value, str) else ""
    return Diagnostic(f"unknown value {show_value(value)}{one_of(suggestion, choices)}", mark, suggestion)


def one_of(suggestion: str, choices: list[str]) -> str:
    """The allowed values for a message; '' if it has a suggestion."""
    if suggestion:
        return ""
    return f"; it is one of {', '.join(choices)}" if choices else ""


def words(expected: str) -> list[str]:
    """The words of Pydantic's list of allowed values, such as "'a', 'b' or 'c'"."""
    return [part.strip().strip("'") for piece in expected.split(" or ") for part in piece.split(",") if part.strip()]


def show_value(value: Any) -> str:
    """A value as it is shown in a message; long texts are shortened to 40 characters."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        text = value.replace("\n", " ")  # messages have one line
        return f"'{text if len(text) <= 40 else text[:37] + '...'}'"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{value:g}" if isinstance(value, float) else str(value)[:60]


BOUNDS = {
    "greater_than": ("gt", "must be above"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be below"),
    "less_than_equal": ("le", "must be at most"),
    "multiple_of": ("multiple_of", "must be a multiple of"),
}
NOUNS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}


def reason(error: ErrorDetails, value: Any, node: Node | None = None) -> str:
    """Describe what is wrong with a value, with a remedy if there is an obvious one."""
    name, context = error["type"], error.get("ctx", {})
    if name in BOUNDS:
        key, text = BOUNDS[name]
        return f"{text} {show_value(context[key])}, not {show_value(value)}"
    if name in ("int_from_float", "int_parsing"):
        name = "int_type"
    if name in ("float_parsing", "float_type", "int_type", "bool_type", "string_type") or name.endswith("_type"):
        noun = NOUNS.get(name.split("_")[0], "something else")
        return f"must be {noun}, not {actual(value, node)}{remedy(noun, value, node)}"
    match name:
        case "finite_number":
            return f"must be a finite number, not {show_value(value)}"
        case "too_short" | "too_long":
            bound = context.get("min_length" if name == "too_short" else "max_length")
            limit = "at least" if name == "too_short" else "at most"
            return f"must have {limit} {bound} item{'s'[: bound != 1]}, not {context.get('actual_length')}"
        case "string_too_short" | "string_too_long":
            bound = context.get("min_length" if name == "string_too_short" else "max_length")
            return f"must have {'at least' if name == 'string_too_short' else 'at most'} {bound} characters"
        case "string_pattern_mismatch":
            pattern = str(context.get("pattern"))
            lower = pattern.startswith("^[a-z0-9]")
            return "must be lower-case letters, digits and '_'" if lower else f"must match {pattern}"
        case _:
            return f"is not valid: {error['msg'][:1].lower()}{error['msg'][1:]}"


def actual(value: Any, node: Node | None) -> str:
    """A value of the wrong type, as it is written in the file."""
    if isinstance(value, str):
        return f"the text {show_value(value)}"
    return node.text if isinstance(node, Scalar) and node.text and not node.quoted else show_value(value)


def remedy(noun: str, value: Any, node: Node | None) -> str:
    """The remedy for a value of the wrong type (`noun` names the right one); '' if it is not obvious."""
    if isinstance(value, str):
        text = value.strip().lower()
        if noun == "true or false" and text in ("yes", "on", "y", "no", "off", "n", "true", "false"):
            return f"; write {'true' if text in ('yes', 'on', 'y', 'true') else 'false'}"
        if noun in ("a number", "a whole number") and isinstance(node, Scalar) and node.quoted and is_number(text):
            return "; remove the quotes"
        if noun == "a list":
            return f"; write [{value}]"
        return ""
    if isinstance(value, float) and noun == "a whole number" and math.isfinite(value) and value.is_integer():
        return f"; write {int(value)}"
    if isinstance(value, (int, float)) and noun == "text":
        return "; put it in quotes"
    if noun == "a list" and not isinstance(value, (dict, list)) and value is not None:
        return f"; write [{show_value(value)}]"
    if value is None and isinstance(node, Scalar) and not node.text:
        return ": the value is missing"
    if noun == "a mapping" and isinstance(node, Sequence):
        return "; write `key: value` lines without '-'"
    return ""


def is_number(text: str) -> bool:
    """Whether `text` is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
