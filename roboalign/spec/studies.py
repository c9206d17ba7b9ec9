"""Reading a study, and composing each of its runs, before any of them is queued."""

from roboalign.spec.compose import Choice, Composition, choose, compose
from roboalign.spec.diagnostics import Diagnostic, SpecError, has_errors
from roboalign.spec.document import Entry, Mapping, Mark
from roboalign.spec.experiment import StudySpec, adapter
from roboalign.spec.library import STUDIES, Library
from roboalign.spec.merge import expand_dotted, merged_over
from roboalign.spec.validation import validate


def read_study(library: Library, name: str, mark: Mark) -> StudySpec:
    """The study in specs/studies/<name>.yaml, whose runs are all valid. Raises SpecError with all that is wrong."""
    study, found = check_study(library, name, mark)
    if study is None or has_errors(found):
        raise SpecError(found)
    return study


def check_study(library: Library, name: str, mark: Mark) -> tuple[StudySpec | None, list[Diagnostic]]:
    """A study, if its own fields are valid, and all that is wrong with it and with its runs."""
    document = library.variant(STUDIES, name, mark)
    if document is None:
        return None, list(library.diagnostics)
    study, found = validate(adapter(f"{STUDIES}/"), StudySpec, document)
    if study is None:
        return None, found
    for run in study.runs:
        found += compose_run(library, document, study.experiment, run).diagnostics
    return study, found


def compose_run(library: Library, document: Mapping, experiment: str, run: str) -> Composition:
    """One run of a valid study, composed over its experiment."""
    runs = document.entries["runs"].value
    assert isinstance(runs, Mapping)
    entry = runs.entries[run]
    own = entry.value if isinstance(entry.value, Mapping) else Mapping({}, entry.key)
    choice = choose(own)
    values = merged_over(_values(document), choice.values)
    assert isinstance(values, Mapping)
    return compose(library, experiment, document.entries["experiment"].value.mark, Choice(choice.use, None, values))


def _values(document: Mapping) -> Mapping:
    """The values that a study sets for all runs."""
    shared: Entry | None = document.entries.get("set")
    if shared is None or not isinstance(shared.value, Mapping):
        return Mapping({}, document.mark)
    return expand_dotted(shared.value)
