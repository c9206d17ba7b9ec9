"""Reads the file of one variant, inside or outside specs/, for `inspect` and `convert`."""

from pathlib import Path
from typing import Any

from roboalign.spec.compose import Choice, choose, experiment_choice, overlay_source_values
from roboalign.spec.diagnostics import Diagnostic, SpecError, has_errors
from roboalign.spec.document import COMMAND_LINE, DocumentError, Mapping, Node, Scalar, plain, read
from roboalign.spec.dump import flow
from roboalign.spec.experiment import VARIANTS, ParamsSpec, adapter
from roboalign.spec.library import Library
from roboalign.spec.validation import validate


def single(root: Path, path: Path, part: str) -> Any:
    """The spec in a file.

    Args:
        root: The checkout.
        path: The file; only a file in specs/<part>/ may extend others.
        part: The part whose variant it is.

    Raises:
        SpecError: The file is not valid; contains all errors.
    """
    library = Library(root)
    folder = (root / "specs" / part).resolve()
    inside = path.resolve().parent == folder
    node = library.variant(part, path.stem, COMMAND_LINE) if inside else read_standalone(path, part)
    if node is None:
        raise SpecError(library.diagnostics)
    value, diagnostics = validate(adapter(f"{part}/"), VARIANTS[part], node)
    if has_errors(diagnostics):
        raise SpecError(diagnostics)
    return value


def resolve_source(root: Path, name: str) -> tuple[Any, list[str]]:
    """A source's spec with the values that params.yaml and its experiment set for it.

    The source need not be listed there; without a valid params.yaml its file is read alone. Returns the spec and the
    changed fields, one line each with both values and the file and line of the change. Raises SpecError with all
    errors.
    """
    library = Library(root)
    node = library.variant("sources", name, COMMAND_LINE)
    if node is None:
        raise SpecError(library.diagnostics)
    merged: Node = node
    if (root / "params.yaml").is_file() and (choices := current_choices(library)):
        merged = overlay_source_values(node, name, *choices)
    value, diagnostics = validate(adapter("sources/"), VARIANTS["sources"], merged)
    if has_errors(diagnostics):
        raise SpecError(diagnostics)
    return value, changes(node, merged, "")


def current_choices(library: Library) -> tuple[Choice, Choice] | None:
    """The choices of the experiment that params.yaml names, and those of params.yaml; None if either is not valid."""
    document = library.document("params.yaml")
    if document is None or validate(adapter("params"), ParamsSpec, document)[0] is None:
        return None
    overrides = choose(document)
    experiment = overrides.use["experiment"].value
    assert isinstance(experiment, Scalar)
    base = experiment_choice(library, str(experiment.value), experiment.mark)
    return None if base is None else (base, overrides)


def changes(base: Node | None, merged: Node, path: str) -> list[str]:
    """One line for each value of `merged` that differs from `base`: field, both values, file and line of the second."""
    if isinstance(merged, Mapping) and (base is None or isinstance(base, Mapping)):
        below = base.entries if isinstance(base, Mapping) else {}
        return [
            line
            for key, entry in merged.entries.items()
            for line in changes(below[key].value if key in below else None, entry.value, f"{path}.{key}".lstrip("."))
        ]
    if base is not None and plain(base) == plain(merged):
        return []
    before = "default" if base is None else flow(plain(base))
    return [f"{path}: {before} → {flow(plain(merged))} ({merged.mark.source.name}:{merged.mark.line + 1})"]


def read_standalone(path: Path, part: str) -> Mapping:
    """Read a file outside specs/. Raises SpecError if it cannot be read or has the key `extends`."""
    try:
        node = read(path, str(path))
    except DocumentError as error:
        raise SpecError([Diagnostic(error.message, error.mark)]) from None
    if "extends" in node.entries:
        message = f"'extends' works only for files in specs/{part}/; move the file there"
        raise SpecError([Diagnostic(message, node.entries["extends"].key)])
    return node
