"""One variant's file by itself: what `inspect` is given, wherever it lies."""

from pathlib import Path
from typing import Any

from roboalign.spec.diagnostics import Diagnostic, SpecError, failed
from roboalign.spec.document import COMMAND_LINE, DocumentError, Mapping, read
from roboalign.spec.experiment import VARIANTS, adapter
from roboalign.spec.library import Library
from roboalign.spec.validation import validated


def single(root: Path, path: Path, part: str) -> Any:
    """The spec in a file. One in specs/<part>/ may extend others there. Raises SpecError with all that is wrong."""
    library = Library(root)
    folder = (root / "specs" / part).resolve()
    inside = path.resolve().parent == folder
    node = library.variant(part, path.stem, COMMAND_LINE) if inside else alone(path, part)
    if node is None:
        raise SpecError(library.diagnostics)
    value, found = validated(adapter(f"{part}/"), VARIANTS[part], node)
    if failed(found):
        raise SpecError(found)
    return value


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
