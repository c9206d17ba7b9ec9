"""Reads a study and composes each of its runs, so that errors are found before any run is queued."""

from roboalign.spec.compose import Choice, Composition, choose, compose
from roboalign.spec.diagnostics import Diagnostic, SpecError, has_errors
from roboalign.spec.document import Entry, Mapping, Mark
from roboalign.spec.experiment import StudySpec, adapter
from roboalign.spec.library import STUDIES, Library
from roboalign.spec.merge import expand_dotted, merge_keys
from roboalign.spec.validation import validate


def read_study(library: Library, name: str, mark: Mark) -> StudySpec:
    """Read specs/studies/<name>.yaml. Raises SpecError with all errors in it and in its runs."""
    study, diagnostics = check_study(library, name, mark)
    if study is None or has_errors(diagnostics):
        raise SpecError(diagnostics)
    return study


def check_study(library: Library, name: str, mark: Mark) -> tuple[StudySpec | None, list[Diagnostic]]:
    """A study (None if its fields are not valid), and the diagnostics of the study and its runs."""
    document = library.variant(STUDIES, name, mark)
    if document is None:
        return None, list(library.diagnostics)
    study, diagnostics = validate(adapter(f"{STUDIES}/"), StudySpec, document)
    if study is None:
        return None, diagnostics
    for run in study.runs:
        diagnostics += compose_run(library, document, study.experiment, run).diagnostics
    return study, diagnostics


def compose_run(library: Library, document: Mapping, experiment: str, run: str) -> Composition:
    """Compose one run of the valid study `document` over its experiment."""
    runs = document.entries["runs"].value
    assert isinstance(runs, Mapping)
    entry = runs.entries[run]
    choice = choose(entry.value if isinstance(entry.value, Mapping) else Mapping({}, entry.key))
    values = merge_keys(_shared_values(document), choice.values)
    assert isinstance(values, Mapping)
    return compose(library, experiment, document.entries["experiment"].value.mark, Choice(choice.use, None, values))


def _shared_values(document: Mapping) -> Mapping:
    """The values that a study sets for all runs."""
    shared: Entry | None = document.entries.get("set")
    if shared is None or not isinstance(shared.value, Mapping):
        return Mapping({}, document.mark)
    return expand_dotted(shared.value)
