"""One variant's file by itself: what `inspect` is given, wherever it lies."""

from pathlib import Path
from typing import Any

from roboalign.spec.compose import Choice, choose, experiment_choice, overlaid_source
from roboalign.spec.diagnostics import Diagnostic, SpecError, has_errors
from roboalign.spec.document import COMMAND_LINE, DocumentError, Mapping, Node, Scalar, plain, read
from roboalign.spec.dump import flow
from roboalign.spec.experiment import VARIANTS, ParamsSpec, adapter
from roboalign.spec.library import Library
from roboalign.spec.validation import validate


def single(root: Path, path: Path, part: str) -> Any:
    """The spec in a file. One in specs/<part>/ may extend others there. Raises SpecError with all that is wrong."""
    library = Library(root)
    folder = (root / "specs" / part).resolve()
    inside = path.resolve().parent == folder
    node = library.variant(part, path.stem, COMMAND_LINE) if inside else alone(path, part)
    if node is None:
        raise SpecError(library.diagnostics)
    value, found = validate(adapter(f"{part}/"), VARIANTS[part], node)
    if has_errors(found):
        raise SpecError(found)
    return value


def source_at_hand(root: Path, name: str) -> tuple[Any, list[str]]:
    """A source's spec as the experiment of params.yaml has it, whether listed there or not, and what the experiment
    sets over the source's own file, each with the file and line.

    Raises SpecError with all that is wrong. Without a valid params.yaml it is the file alone.
    """
    library = Library(root)
    node = library.variant("sources", name, COMMAND_LINE)
    if node is None:
        raise SpecError(library.diagnostics)
    laid: Node = node
    if (root / "params.yaml").is_file() and (choices := choices_at_hand(library)):
        laid = overlaid_source(node, name, *choices)
    value, found = validate(adapter("sources/"), VARIANTS["sources"], laid)
    if has_errors(found):
        raise SpecError(found)
    return value, changes(node, laid, "")


def choices_at_hand(library: Library) -> tuple[Choice, Choice] | None:
    """The choices of the experiment of params.yaml, and those of params.yaml itself; None if either is not valid."""
    document = library.document("params.yaml")
    if document is None or validate(adapter("params"), ParamsSpec, document)[0] is None:
        return None
    own = choose(document)
    place = own.use["experiment"].value
    assert isinstance(place, Scalar)
    theirs = experiment_choice(library, str(place.value), place.mark)
    return None if theirs is None else (theirs, own)


def changes(base: Node | None, laid: Node, path: str) -> list[str]:
    """What differs between a node and the one laid over it: field, both values, and the line that set the second."""
    if isinstance(laid, Mapping) and (base is None or isinstance(base, Mapping)):
        below = base.entries if isinstance(base, Mapping) else {}
        return [
            line
            for key, entry in laid.entries.items()
            for line in changes(below[key].value if key in below else None, entry.value, f"{path}.{key}".lstrip("."))
        ]
    if base is not None and plain(base) == plain(laid):
        return []
    before = "default" if base is None else flow(plain(base))
    return [f"{path}: {before} → {flow(plain(laid))} ({laid.mark.source.name}:{laid.mark.line + 1})"]


def alone(path: Path, part: str) -> Mapping:
    """A file outside specs/, which extends nothing. Raises SpecError."""
    try:
        node = read(path, str(path))
    except DocumentError as error:
        raise SpecError([Diagnostic(error.message, error.mark)]) from None
    if "extends" in node.entries:
        message = f"'extends' works in specs/{part}/ alone; move the file there"
        raise SpecError([Diagnostic(message, node.entries["extends"].key)])
    return node
