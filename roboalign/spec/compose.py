"""Composition: params.yaml, an experiment and the variants that it names become one resolved section for each part.

Layers, each over the one before: the spec's defaults, the variant's file (over the files that it extends), the
experiment's `set`, params.yaml's `set`. A section contains every field, so a changed default changes the section.
"""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roboalign.spec.defaults import write_out_defaults
from roboalign.spec.diagnostics import Diagnostic, SpecError, has_errors, nearest
from roboalign.spec.document import Entry, Mapping, Mark, Node, Scalar, Sequence, Source
from roboalign.spec.dump import dump
from roboalign.spec.experiment import KINDS, PARTS, VARIANTS, Experiment, ExperimentFileSpec, ParamsSpec, adapter
from roboalign.spec.invariants import violations
from roboalign.spec.library import Library
from roboalign.spec.merge import Place, expand_dotted, locate, merge
from roboalign.spec.validation import validate

FOLDER = Path("build/spec")
"""The folder of the resolved sections."""

EACH = "*"
"""The key for every listed source: `set: {sources.*.episodes: 4}`."""

HEADER = "# Written by the stage `compose` from params.yaml and specs/. Edit those, not this.\n"


@dataclass
class Composition:
    """A composed experiment: merged nodes with positions, sections of plain values, and all diagnostics."""

    name: str
    nodes: dict[str, Mapping] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    experiment: Experiment | None = None
    variants: dict[str, str] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def section_files(self) -> dict[str, Any]:
        """The sections as they are written to files: one for each part, and `rubric`.

        `rubric` is `reward` without weights. Labels and raw scores depend on it alone, so a changed weight does not
        re-run the bench.
        """
        reward = self.sections.get("reward")
        if reward is None:
            return self.sections
        dimensions = {
            name: {field: value for field, value in dimension.items() if field != "weight"}
            for name, dimension in reward["dimensions"].items()
        }
        return {**self.sections, "rubric": {**reward, "dimensions": dimensions}}

    def require(self) -> Experiment:
        """Return the experiment. Raises SpecError with all errors if there are any."""
        if self.experiment is None or has_errors(self.diagnostics):
            raise SpecError(self.diagnostics)
        return self.experiment


@dataclass(frozen=True)
class Choice:
    """The variants, sources and single values that an experiment's file or params.yaml chooses."""

    use: dict[str, Entry]
    sources: Sequence | None
    values: Mapping


def compose_params(library: Library, name: str = "params.yaml") -> Composition:
    """Compose the experiment of params.yaml with its overrides; note if its sources differ from the experiment's."""
    document = library.document(name)
    result = Composition("")
    if document is None:
        result.diagnostics = list(library.diagnostics)
        return result
    params, diagnostics = validate(adapter("params"), ParamsSpec, document)
    result.diagnostics += diagnostics
    if params is None:
        return result
    result.name = params.use.experiment
    overrides = choose(document)
    mark = overrides.use["experiment"].value.mark
    composition = compose(library, result.name, mark, overrides)
    base = experiment_choice(library, result.name, mark)
    usual, listed = (choice.sources if choice else None for choice in (base, overrides))
    if usual and listed and names(usual) != names(listed) and not has_errors(composition.diagnostics):
        message = f"the experiment '{result.name}' lists other sources: {', '.join(names(usual))}"
        composition.diagnostics.append(Diagnostic(message, listed.mark, severity="note"))
    return composition


def compose(library: Library, name: str, mark: Mark, overrides: Choice | None = None) -> Composition:
    """Compose an experiment.

    Args:
        library: The spec files.
        name: A file under specs/experiments/, without its ending.
        mark: Where the experiment is named; errors about a missing file point there.
        overrides: The choices of params.yaml or of a study's run, laid over the experiment's.
    """
    result = Composition(name)
    base = experiment_choice(library, name, mark)
    if base is None:
        result.diagnostics = list(library.diagnostics)
        return result
    source = base.values.mark.source
    result.diagnostics += check_paths(base.values) + (check_paths(overrides.values) if overrides else [])
    for part in PARTS:
        entry = (overrides.use.get(part) if overrides else None) or base.use.get(part)
        if entry is None:
            known = ", ".join(library.names(part))
            message = f"the experiment names no variant of '{part}'; add `{part}: …` under `use` (available: {known})"
            result.diagnostics.append(Diagnostic(message, start(source)))
            continue
        assert isinstance(entry.value, Scalar)
        result.variants[part] = str(entry.value.value)
        node = library.variant(part, str(entry.value.value), entry.value.mark)
        if node is not None:
            result.nodes[part] = overlay_values(node, part, base, overrides)
    listed = (overrides.sources if overrides else None) or base.sources
    if listed is None:
        result.diagnostics.append(Diagnostic("the experiment lists no `sources`", start(source)))
    else:
        sources = gather_sources(library, result, listed, base, overrides)
        if sources.entries:
            result.nodes["sources"] = sources
    result.diagnostics += library.diagnostics
    resolve(result)
    return result


def resolve(result: Composition) -> None:
    """Validate every section by its spec, then the invariants between sections; fills `sections` and `experiment`."""
    specs: dict[str, Any] = {}
    for section, kind in KINDS.items():
        if section in result.nodes:
            value, diagnostics = validate(adapter(section), kind, result.nodes[section])
            result.diagnostics += diagnostics
            if value is not None:
                specs[section] = value
    result.sections = {
        section: adapter(section).dump_python(specs[section], mode="json") for section in KINDS if section in specs
    }
    if len(specs) == len(KINDS) and not has_errors(result.diagnostics):
        result.experiment = Experiment(**specs)
        for violation in violations(result.experiment):
            section, _, path = violation.field.partition(".")
            place, rest = locate(result.nodes[section], path)
            result.diagnostics.append(Diagnostic(f"{violation.field}: {violation.message}", mark_of(place, rest)))


def mark_of(place: Place, rest: str) -> Mark:
    """The mark of the value, or of the nearest key above it if the field has its default and is in no file."""
    return place.label if rest else place.value


def choose(document: Mapping) -> Choice:
    """The choices of a valid experiment file or params.yaml; a variant that is null is not chosen."""
    use, sources, values = (document.entries.get(key) for key in ("use", "sources", "set"))
    chosen = use.value.entries if use and isinstance(use.value, Mapping) else {}
    return Choice(
        {
            part: entry
            for part, entry in chosen.items()
            if isinstance(entry.value, Scalar) and entry.value.value is not None
        },
        sources.value if sources and isinstance(sources.value, Sequence) else None,
        expand_dotted(values.value) if values and isinstance(values.value, Mapping) else Mapping({}, document.mark),
    )


def experiment_choice(library: Library, name: str, mark: Mark) -> Choice | None:
    """The choices of specs/experiments/<name>.yaml; None if it is not valid, which is added to the diagnostics."""
    document = library.variant("experiments", name, mark)
    if document is None:
        return None
    value, diagnostics = validate(adapter("experiments/"), ExperimentFileSpec, document)
    if value is None:
        library.diagnostics += diagnostics
        return None
    return choose(document)


def check_paths(values: Mapping) -> list[Diagnostic]:
    """Errors for keys of `set` that do not start with a section, or that name a section without a field."""
    diagnostics = []
    for key, entry in values.entries.items():
        if key not in KINDS:
            known = "" if nearest(key, KINDS) else f"; a path starts with one of {', '.join(KINDS)}"
            diagnostics.append(Diagnostic(f"no part is called '{key}'{known}", entry.key, nearest(key, KINDS)))
        elif not isinstance(entry.value, Mapping):
            diagnostics.append(Diagnostic(f"name a field of '{key}': `{key}.field: value`", entry.key))
    return diagnostics


def overlay_values(node: Mapping, part: str, base: Choice, overrides: Choice | None) -> Mapping:
    """Lay the values of `set`, first the experiment's, then the overrides', over a part's variant."""
    for choice in (base, overrides):
        entry = choice.values.entries.get(part) if choice else None
        if entry is not None and isinstance(entry.value, Mapping):
            merged = merge(write_out_defaults(node, entry.value, KINDS[part]), entry.value)
            assert isinstance(merged, Mapping)
            node = merged
    return node


def overlay_source_values(node: Node, name: str, base: Choice, overrides: Choice | None) -> Node:
    """Lay the values of `set` for every source (`*`) and for the source `name` over its file."""
    for choice in (base, overrides):
        entry = choice.values.entries.get("sources") if choice else None
        for key, value in entry.value.entries.items() if entry and isinstance(entry.value, Mapping) else ():
            if key in (EACH, name):
                node = merge(write_out_defaults(node, value.value, VARIANTS["sources"]), value.value)
    return node


def gather_sources(
    library: Library, result: Composition, listed: Sequence, base: Choice, overrides: Choice | None
) -> Mapping:
    """The section `sources`: the file of each listed source, by name, with the values of `set` over it.

    Values that the experiment sets for one of its own sources are dropped if params.yaml does not list that source.
    Values for any other source that is not listed are errors, added to `result`.
    """
    entries: dict[str, Entry] = {}
    for item in listed.items:
        assert isinstance(item, Scalar)
        name = str(item.value)
        if name in entries:
            result.diagnostics.append(Diagnostic(f"the source '{name}' is listed twice", item.mark))
        node = library.variant("sources", name, item.mark)
        if node is not None:
            entries[name] = Entry(item.mark, node)
    entries = {
        name: Entry(entry.key, overlay_source_values(entry.value, name, base, overrides))
        for name, entry in entries.items()
    }
    usual = names(base.sources) if base.sources else []
    for choice in (base, overrides):
        entry = choice.values.entries.get("sources") if choice else None
        if entry is None or not isinstance(entry.value, Mapping):
            continue
        for name, value in entry.value.entries.items():
            sources = names(listed)
            if name not in (EACH, *sources) and not (choice is base and name in usual):
                known = "" if nearest(name, sources) else f"; listed are {', '.join(sources)}"
                message = f"the source '{name}' is not listed{known}"
                result.diagnostics.append(Diagnostic(message, value.key, nearest(name, sources)))
    return Mapping(entries, listed.mark)


def names(listed: Sequence) -> list[str]:
    """The values of a list's scalars as text."""
    return [str(item.value) for item in listed.items if isinstance(item, Scalar)]


def start(source: Source) -> Mark:
    """The first column of a file."""
    return Mark(source, 0, 0, 0, 1)


def files(composition: Composition) -> dict[str, str]:
    """The text of each resolved section by file name. Raises SpecError if the composition has errors."""
    composition.require()
    return {f"{section}.yaml": HEADER + dump({section: value}) for section, value in composition.section_files.items()}


def write(composition: Composition, folder: Path = FOLDER) -> list[str]:
    """Write the sections that changed and remove files of no section. Returns the names of both.

    Files are written beside their targets and then renamed, so an error while writing leaves all sections as they were.
    Raises SpecError if the composition has errors.
    """
    texts = files(composition)
    folder.mkdir(parents=True, exist_ok=True)
    changed = [
        name
        for name, text in texts.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != text.encode()
    ]
    staged: list[tuple[Path, Path]] = []
    try:
        for name in changed:
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
            staged.append((Path(temporary), folder / name))
            with os.fdopen(handle, "wb") as file:
                file.write(texts[name].encode())
        for source, target in staged:
            source.chmod(0o644)
            source.replace(target)
    finally:
        for source, _ in staged:
            source.unlink(missing_ok=True)
    obsolete = sorted(path for path in folder.iterdir() if path.name not in texts and path.is_file())
    for path in obsolete:
        path.unlink()
    return sorted([*changed, *(path.name for path in obsolete)])
