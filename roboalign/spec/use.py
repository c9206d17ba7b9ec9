"""Switches params.yaml to another experiment and keeps its comments."""

from pathlib import Path
from typing import Any

from roboalign.spec.compose import experiment_choice, names
from roboalign.spec.diagnostics import Diagnostic, SpecError
from roboalign.spec.document import COMMAND_LINE, Mapping, Mark, Node, Source, plain
from roboalign.spec.dump import flow
from roboalign.spec.experiment import PARTS, ParamsSpec, adapter
from roboalign.spec.library import Library
from roboalign.spec.validation import validate


def switch_experiment(library: Library, name: str, *, keep: bool = False) -> tuple[str, list[str]]:
    """The text of params.yaml after switching it to another experiment.

    Args:
        library: The spec files.
        name: The experiment.
        keep: Keep the variants and values that params.yaml sets, instead of resetting them to the experiment's.

    Returns the text and the overrides that were reset. Raises SpecError if params.yaml or the experiment is not valid.
    """
    document = library.document("params.yaml")
    choice = experiment_choice(library, name, COMMAND_LINE)
    errors = list(library.diagnostics)
    if document is not None:
        errors += validate(adapter("params"), ParamsSpec, document)[1]
    if document is None or choice is None or choice.sources is None or errors:
        if choice is not None and choice.sources is None:
            errors.append(
                Diagnostic("the experiment lists no `sources`", Mark(Source(f"specs/experiments/{name}.yaml")))
            )
        raise SpecError(errors)
    text = (library.root / "params.yaml").read_text(encoding="utf-8-sig")
    edits: list[tuple[Node, Mark, Any]] = []
    reset = []
    use = document.entries["use"].value
    assert isinstance(use, Mapping)
    edits.append((use.entries["experiment"].value, use.entries["experiment"].key, name))
    sources = document.entries["sources"]
    edits.append((sources.value, sources.key, names(choice.sources)))
    if not keep:
        for part in PARTS:
            entry = use.entries.get(part)
            if entry is not None and plain(entry.value) is not None:
                reset.append(f"use.{part}: {plain(entry.value)}")
                edits.append((entry.value, entry.key, None))
        values = document.entries.get("set")
        if values is not None and plain(values.value):
            reset.append(f"set: {flow(plain(values.value))}")
            edits.append((values.value, values.key, {}))
    for node, key, value in sorted(edits, key=lambda edit: (edit[1].line, edit[1].column), reverse=True):
        text = replace_value(text, node, key, value)
    return text, reset


def replace_value(text: str, node: Node, key: Mark, value: Any) -> str:
    """`text` with the value `node` after `key` replaced by `value`, written on the key's line."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    begin, end = starts[key.end_line] + key.end_column, starts[node.mark.end_line] + node.mark.end_column
    return f"{text[:begin]}: {flow(value)}{text[end:]}"


def save(root: Path, text: str) -> None:
    """Write params.yaml atomically."""
    temporary = root / ".params.yaml.new"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(root / "params.yaml")
