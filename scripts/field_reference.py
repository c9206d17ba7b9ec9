"""The reference of all spec fields, as Markdown pages written from the JSON Schemas in specs/.schema.

The schemas hold every spec class with types, bounds, defaults and docstrings; a test keeps them equal to the code.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMAS = Path("specs/.schema")

TITLES = {
    "params": "params.yaml", "experiment": "Experiments", "sources": "Sources", "tokenizer": "Tokenizer",
    "world_model": "World model", "probe": "State probes", "bench": "RobotWorldBench", "reward": "Reward",
    "judge": "Judge", "held_out": "Held-out judge", "student": "Student", "rl": "Alignment", "rollout": "Rollouts",
    "policies": "Policies", "evaluation": "Evaluation", "hardware": "Hardware", "study": "Studies",
}  # fmt: skip
"""The pages in the order of the navigation, by the names of the schemas."""

FOLDERS = {"params": "params.yaml", "experiment": "specs/experiments/", "study": "specs/studies/"}
"""Places of the files that a schema describes, if they are not specs/<name>/."""

SHARED = "shared"
"""The page of the classes that several parts use."""

Schema = Mapping[str, Any]


def write_reference(root: Path) -> dict[str, str]:
    """The pages by name, `index` among them: one for each part, and one for what several parts use."""
    schemas: dict[str, Schema] = {
        name: json.loads((root / SCHEMAS / f"{name}.json").read_text(encoding="utf-8")) for name in TITLES
    }
    classes: dict[str, Schema] = {}
    users: dict[str, list[str]] = {}
    for name, schema in schemas.items():
        own = dict(schema.get("$defs", {}))
        if "title" in schema:
            own[schema["title"]] = schema
        for title, definition in own.items():
            classes.setdefault(title, definition)
            users.setdefault(title, []).append(name)
    # The held-out judge is a judge: its page only says so.
    pages = {title: page_of([name for name in names if name != "held_out"]) for title, names in users.items()}
    result = {name: part_page(name, schema, classes, pages) for name, schema in schemas.items()}
    shared = [f"# Shared by several parts\n\n{link_editor()}\n"]
    shared += [class_section(title, classes[title], pages, SHARED) for title in classes if pages[title] == SHARED]
    result[SHARED] = "\n".join(shared)
    result["index"] = index_page(schemas)
    return result


def page_of(names: list[str]) -> str:
    """The page of a class that the schemas `names` use."""
    return names[0] if len(names) == 1 else SHARED


def index_page(schemas: Mapping[str, Schema]) -> str:
    """The list of all pages."""
    rows = [f"| [{title}]({name}.md) | `{place(name)}` | {summary(schemas[name])} |" for name, title in TITLES.items()]
    rows.append(f"| [Shared]({SHARED}.md) | | Training, devices, weights and other fields of several parts. |")
    text = (
        "# Spec fields\n\nEvery field that can be declared, by part. `python -m roboalign show PART` prints the values "
        f"of the current experiment.\n\n{link_editor()}\n"
    )
    return "\n".join([text, "| part | file | |", "| --- | --- | --- |", *rows, ""])


def link_editor() -> str:
    """A sentence on how to read these tables."""
    return (
        "Bounds are part of the type. A field without a default is required; a file with `extends` takes absent ones "
        "from the file that it extends. Editors with a YAML language server show the same by `specs/.schema/`."
    )


def place(name: str) -> str:
    """The file or folder that a schema describes."""
    return FOLDERS.get(name, f"specs/{name}/")


def summary(schema: Schema) -> str:
    """The first sentence of a schema's description."""
    text = " ".join(str(schema.get("description", "")).split())
    return escape(re.split(r"(?<=\.)\s", text, maxsplit=1)[0])


def part_page(name: str, schema: Schema, classes: Mapping[str, Schema], pages: Mapping[str, str]) -> str:
    """The page of one part: its own class first, then those that it alone uses."""
    lines = [f"# {TITLES[name]}", "", f"`{place(name)}`", ""]
    if "oneOf" in schema:
        lines += [f"A file is one of: {render_type(schema, pages, name)}.", ""]
    root = schema.get("title")
    own = [title for title, page in pages.items() if page == name and title != root]
    for title in ([root] if root else []) + sorted(own):
        lines.append(class_section(title, classes[title], pages, name))
    return "\n".join(lines)


def class_section(title: str, schema: Schema, pages: Mapping[str, str], page: str) -> str:
    """The heading, docstring and table of the fields of a class."""
    lines = [f"## {title}", "", escape(str(schema.get("description", ""))), ""]
    required = set(schema.get("required", ())) | set((schema.get("anyOf") or [{}])[0].get("required", ()))
    properties = schema.get("properties", {})
    if properties:
        lines += ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    for field, value in properties.items():
        cells = (
            f"`{field}`", render_type(value, pages, page), default_of(field, value, field in required),
            escape(" ".join(str(value.get("description", "")).split())),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def default_of(field: str, schema: Schema, required: bool) -> str:
    """The default of a field as YAML would have it."""
    if required:
        return "required"
    if "default" not in schema:
        assert field == "extends", f"{SCHEMAS} has no default of {field}; run `python -m roboalign schema`"
        return "none"
    text = json.dumps(schema["default"], ensure_ascii=False)
    if len(text) <= 60:
        return f"`{text}`"
    kind = schema["default"].get("kind") if isinstance(schema["default"], Mapping) else None
    return f"`kind: {kind}` and its values" if kind else "several values"


def render_type(schema: Schema, pages: Mapping[str, str], page: str) -> str:
    """A type with its bounds, as Markdown; classes are links."""
    if "$ref" in schema:
        title = schema["$ref"].rpartition("/")[2]
        target = "" if pages[title] == page else f"{pages[title]}.md"
        return f"[{title}]({target}#{title.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return " or ".join(render_type(each, pages, page) for each in schema[key])
    match schema.get("type"):
        case "array":
            return array_type(schema, pages, page)
        case "object":
            values: Any = schema.get("additionalProperties") or next(
                iter(schema.get("patternProperties", {}).values()), {}
            )
            inner = render_type(values, pages, page) if isinstance(values, Mapping) and values else "any value"
            return f"mapping of names to {inner}"
        case "number" | "integer" | "string" | "boolean" | "null" as kind:
            return f"{kind}{bounds(schema)}"
    return "any value"


def array_type(schema: Schema, pages: Mapping[str, str], page: str) -> str:
    """The type of a list."""
    if "prefixItems" in schema:
        return f"({', '.join(render_type(each, pages, page) for each in schema['prefixItems'])})"
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    count = f" ({least} to {most})" if most is not None else (f" ({least} or more)" if least else "")
    return f"list{count} of {render_type(schema.get('items', {}), pages, page)}"


def bounds(schema: Schema) -> str:
    """The bounds of a number, or of the length of a text."""
    parts = []
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        parts.append(f"{low:g} to {high:g}")
    elif low is not None:
        parts.append(f"{low:g} or more")
    elif high is not None:
        parts.append(f"at most {high:g}")
    parts += [f"above {schema['exclusiveMinimum']:g}"] if "exclusiveMinimum" in schema else []
    parts += [f"below {schema['exclusiveMaximum']:g}"] if "exclusiveMaximum" in schema else []
    parts += [f"multiple of {schema['multipleOf']:g}"] if "multipleOf" in schema else []
    if "maxLength" in schema and "pattern" not in schema:
        parts.append(f"{schema.get('minLength', 0)} to {schema['maxLength']} characters")
    return f", {', '.join(parts)}" if parts else ""


def escape(text: str) -> str:
    """Text for a cell of a table; what is in backticks stays as it is."""
    pieces = text.split("`")
    for number in range(0, len(pieces), 2):
        pieces[number] = re.sub(r"([|*_])", r"\\\1", pieces[number]).replace("<", "&lt;")
    return "`".join(pieces)
