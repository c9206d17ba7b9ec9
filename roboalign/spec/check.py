"""Checks everything under specs/: each variant by itself, each experiment, each study, and params.yaml."""

from roboalign.spec.compose import compose, compose_params
from roboalign.spec.diagnostics import Diagnostic, sort_diagnostics
from roboalign.spec.document import COMMAND_LINE, Mark, Source, plain
from roboalign.spec.dump import flow
from roboalign.spec.experiment import VARIANTS, adapter
from roboalign.spec.library import EXPERIMENTS, STUDIES, Library
from roboalign.spec.studies import check_study
from roboalign.spec.validation import validate


def overrides(library: Library) -> list[str]:
    """The variants and values that params.yaml sets over its experiment, as `path: value`.

    They may be left over: a killed `dvc exp run -S` leaves its values in params.yaml.
    """
    document = library.document("params.yaml")
    value = plain(document) if document else {}
    use = {part: name for part, name in (value.get("use") or {}).items() if part != "experiment" and name is not None}
    return [f"use.{part}: {name}" for part, name in use.items()] + (
        [f"set: {flow(value['set'])}"] if value.get("set") else []
    )


def describe_uncommitted_params(library: Library) -> str:
    """One line with the values of params.yaml that differ from the last commit, and how to restore them.

    Returns '' if none differ or git fails. A `dvc exp run -S` whose value is rejected leaves it in params.yaml.
    """
    from roboalign.spec.plan import uncommitted_params  # imports the estimates, which nothing else here needs

    document = library.document("params.yaml")
    changed = uncommitted_params(library.root, plain(document)) if document else []
    if not changed:
        return ""
    return (
        f"params.yaml differs from the last commit: {'; '.join(changed)}. A rejected `dvc exp run -S` leaves its "
        "values there; `git checkout params.yaml` restores it"
    )


def check(library: Library, experiment: str | None = None) -> list[Diagnostic]:
    """The errors and notes of one experiment, or of the whole tree and params.yaml; sorted, without duplicates."""
    if experiment is not None:
        return sort_diagnostics(compose(library, experiment, COMMAND_LINE).diagnostics)
    diagnostics = list(library.stray_files())
    for part, kind in VARIANTS.items():
        for name in library.names(part):
            path = f"specs/{part}/{name}.yaml"
            node = library.variant(part, name, Mark(Source(path)))
            if node is not None:
                diagnostics += validate(adapter(f"{part}/"), kind, node)[1]
    for name in library.names(EXPERIMENTS):
        diagnostics += compose(library, name, Mark(Source(f"specs/{EXPERIMENTS}/{name}.yaml"))).diagnostics
    for name in library.names(STUDIES):
        diagnostics += check_study(library, name, Mark(Source(f"specs/{STUDIES}/{name}.yaml")))[1]
    diagnostics += compose_params(library).diagnostics
    return sort_diagnostics([*diagnostics, *library.diagnostics])
