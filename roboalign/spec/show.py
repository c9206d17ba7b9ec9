"""Formats the resolved experiment as YAML, or line by line with the origin of every value."""

from typing import Any

from roboalign.spec.compose import Composition
from roboalign.spec.diagnostics import Diagnostic, SpecError, nearest
from roboalign.spec.document import COMMAND_LINE
from roboalign.spec.dump import dump, flow
from roboalign.spec.merge import locate


def show_section(composition: Composition, path: str | None, origins: bool) -> str:
    """The resolved value at a dotted path as text.

    Args:
        composition: A valid composition.
        path: Section and fields, such as `rollout.decodings.swr`; None for all sections.
        origins: Show one line for each value, with the file and line that set it, instead of YAML.

    Raises:
        SpecError: There is no such field.
    """
    value: Any = composition.sections
    done: list[str] = []
    for step in path.split(".") if path else []:
        keys = (
            list(value)
            if isinstance(value, dict)
            else [str(n) for n in range(len(value))]
            if isinstance(value, list)
            else []
        )
        if step not in keys:
            known = "" if nearest(step, keys) else f"; available: {', '.join(keys)}" if keys else "; it has no fields"
            parent = f" in '{'.'.join(done)}'" if done else ""
            message = f"there is no '{step}'{parent}{known}"
            raise SpecError([Diagnostic(message, COMMAND_LINE, nearest(step, keys))])
        value = value[step] if isinstance(value, dict) else value[int(step)]
        done.append(step)
    if origins:
        return "\n".join(describe_origins(composition, value, path or "")) + "\n"
    return dump(value) if isinstance(value, (dict, list)) else flow(value) + "\n"


def describe_origins(composition: Composition, value: Any, path: str) -> list[str]:
    """One line for each single value below `path`: its path, the value, and the file and line that set it."""
    if isinstance(value, dict) and value:
        return [
            line
            for key, item in value.items()
            for line in describe_origins(composition, item, f"{path}.{key}".lstrip("."))
        ]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return [line for n, item in enumerate(value) for line in describe_origins(composition, item, f"{path}.{n}")]
    section, _, rest = path.partition(".")
    place, missing = locate(composition.nodes[section], rest)
    mark = place.label
    origin = "default" if missing else f"{mark.source.name}:{mark.line + 1}"
    return [f"{path + ': ' + flow(value):<70} # {origin}"]
