"""Checking everything that stands under specs/: each variant by itself, each experiment, and params.yaml."""

from roboalign.spec.compose import compose, compose_params
from roboalign.spec.diagnostics import Diagnostic, sort_diagnostics
from roboalign.spec.document import COMMAND_LINE, Mark, Source, plain
from roboalign.spec.dump import flow
from roboalign.spec.experiment import VARIANTS, adapter
from roboalign.spec.library import EXPERIMENTS, STUDIES, Library
from roboalign.spec.studies import check_study
from roboalign.spec.validation import validate


def overrides(library: Library) -> list[str]:
    """What params.yaml sets besides the experiment: a killed `dvc exp run -S` leaves its values behind."""
    document = library.document("params.yaml")
    value = plain(document) if document else {}
    use = {part: name for part, name in (value.get("use") or {}).items() if part != "experiment" and name is not None}
    return [f"use.{part}: {name}" for part, name in use.items()] + (
        [f"set: {flow(value['set'])}"] if value.get("set") else []
    )


def left_behind(library: Library) -> str:
    """What params.yaml sets away from the last commit, and how to take it back; '' if nothing or git does not know. A
    `dvc exp run -S` whose value is refused leaves it there."""
    from roboalign.spec.plan import away  # imports this part's estimates, which only this needs

    document = library.document("params.yaml")
    changed = away(library.root, plain(document)) if document else []
    if not changed:
        return ""
    return (
        f"params.yaml differs from the last commit: {'; '.join(changed)}. A `dvc exp run -S` that is refused leaves "
        "its values there; `git checkout params.yaml` takes them back"
    )


def check(library: Library, experiment: str | None = None) -> list[Diagnostic]:
    """All that is wrong with one experiment, or with the whole tree and params.yaml; sorted, each thing once."""
    if experiment is not None:
        return sort_diagnostics(compose(library, experiment, COMMAND_LINE).diagnostics)
    found = list(library.strays())
    for part, kind in VARIANTS.items():
        for name in library.names(part):
            path = f"specs/{part}/{name}.yaml"
            node = library.variant(part, name, Mark(Source(path)))
            if node is not None:
                found += validate(adapter(f"{part}/"), kind, node)[1]
    for name in library.names(EXPERIMENTS):
        found += compose(library, name, Mark(Source(f"specs/{EXPERIMENTS}/{name}.yaml"))).diagnostics
    for name in library.names(STUDIES):
        found += check_study(library, name, Mark(Source(f"specs/{STUDIES}/{name}.yaml")))[1]
    found += compose_params(library).diagnostics
    return sort_diagnostics([*found, *library.diagnostics])
