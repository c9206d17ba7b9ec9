"""Checking everything that stands under specs/: each variant by itself, each experiment, and params.yaml."""

from roboalign.spec.compose import compose, compose_params
from roboalign.spec.diagnostics import Diagnostic, ordered
from roboalign.spec.document import COMMAND_LINE, Mark, Source
from roboalign.spec.experiment import VARIANTS, adapter
from roboalign.spec.library import EXPERIMENTS, Library
from roboalign.spec.validation import validated


def check(library: Library, experiment: str | None = None) -> list[Diagnostic]:
    """All that is wrong with one experiment, or with the whole tree and params.yaml; sorted, each thing once."""
    if experiment is not None:
        return ordered(compose(library, experiment, COMMAND_LINE).diagnostics)
    found = list(library.strays())
    for part, kind in VARIANTS.items():
        for name in library.names(part):
            path = f"specs/{part}/{name}.yaml"
            node = library.variant(part, name, Mark(Source(path)))
            if node is not None:
                found += validated(adapter(f"{part}/"), kind, node)[1]
    for name in library.names(EXPERIMENTS):
        found += compose(library, name, Mark(Source(f"specs/{EXPERIMENTS}/{name}.yaml"))).diagnostics
    found += compose_params(library).diagnostics
    return ordered([*found, *library.diagnostics])
