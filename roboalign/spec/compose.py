"""Composition: params.yaml, an experiment and the variants it names become one resolved section for each part.

Layers, each over the one before: the spec's defaults, the variant's file (over what it extends), the experiment's
`set`, params.yaml's `set`. A section holds every field, so a changed default is a changed section.
"""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roboalign.spec.diagnostics import Diagnostic, SpecError, has_errors, nearest
from roboalign.spec.document import Entry, Mapping, Mark, Node, Scalar, Sequence, Source
from roboalign.spec.dump import dump
from roboalign.spec.experiment import KINDS, PARTS, Experiment, ExperimentFileSpec, ParamsSpec, adapter
from roboalign.spec.invariants import violations
from roboalign.spec.library import Library
from roboalign.spec.merge import Place, expand_dotted, locate, merge
from roboalign.spec.validation import validate

FOLDER = Path("build/spec")
"""Where the resolved sections are written."""

EACH = "*"
"""In `set`, `sources.*.episodes: 4` gives every listed source the value."""

HEADER = "# Written by the stage `compose` from params.yaml and specs/. Edit those, not this.\n"


@dataclass
class Composition:
    """An experiment as composed: its merged nodes (with positions), and its sections where nothing is wrong."""

    name: str
    nodes: dict[str, Mapping] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    experiment: Experiment | None = None
    variants: dict[str, str] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def section_files(self) -> dict[str, Any]:
        """The sections as files hold them: those of the parts, and `rubric`, which is `reward` without weights: what
        labels and scores depend on, so that a changed weight leaves the bench as it is."""
        reward = self.sections.get("reward")
        if reward is None:
            return self.sections
        dimensions = {
            name: {field: value for field, value in dimension.items() if field != "weight"}
            for name, dimension in reward["dimensions"].items()
        }
        return {**self.sections, "rubric": {**reward, "dimensions": dimensions}}

    def require(self) -> Experiment:
        """The experiment. Raises SpecError with all errors where there are any."""
        if self.experiment is None or has_errors(self.diagnostics):
            raise SpecError(self.diagnostics)
        return self.experiment


@dataclass(frozen=True)
class Choice:
    """What one file of names chooses."""

    use: dict[str, Entry]
    sources: Sequence | None
    values: Mapping


def compose_params(library: Library, name: str = "params.yaml") -> Composition:
    """Compose what params.yaml says."""
    document = library.document(name)
    result = Composition("")
    if document is None:
        result.diagnostics = list(library.diagnostics)
        return result
    params, found = validate(adapter("params"), ParamsSpec, document)
    result.diagnostics += found
    if params is None:
        return result
    result.name = params.use.experiment
    own = choose(document)
    whole = compose(library, result.name, own.use["experiment"].value.mark, own)
    listed = experiment_choice(library, result.name, own.use["experiment"].value.mark)
    usual, here = (choice.sources if choice else None for choice in (listed, own))
    if usual and here and names(usual) != names(here) and not has_errors(whole.diagnostics):
        message = f"the experiment '{result.name}' lists other sources: {', '.join(names(usual))}"
        whole.diagnostics.append(Diagnostic(message, here.mark, severity="note"))
    return whole


def compose(library: Library, name: str, mark: Mark, own: Choice | None = None) -> Composition:
    """Compose the experiment `name`, which `mark` asks for, with the choices of params.yaml over it."""
    result = Composition(name)
    theirs = experiment_choice(library, name, mark)
    if theirs is None:
        result.diagnostics = list(library.diagnostics)
        return result
    where = theirs.values.mark
    result.diagnostics += paths(theirs.values) + (paths(own.values) if own else [])
    for part in PARTS:
        entry = (own.use.get(part) if own else None) or theirs.use.get(part)
        if entry is None:
            known = ", ".join(library.names(part))
            message = f"the experiment names no variant of '{part}'; add `{part}: …` under `use` (there are: {known})"
            result.diagnostics.append(Diagnostic(message, start(where.source)))
            continue
        assert isinstance(entry.value, Scalar)
        result.variants[part] = str(entry.value.value)
        node = library.variant(part, str(entry.value.value), entry.value.mark)
        if node is not None:
            result.nodes[part] = overlaid(node, part, theirs, own)
    listed = (own.sources if own else None) or theirs.sources
    if listed is None:
        result.diagnostics.append(Diagnostic("the experiment lists no `sources`", start(where.source)))
    else:
        sources = gather_sources(library, result, listed, theirs, own)
        if sources.entries:
            result.nodes["sources"] = sources
    result.diagnostics += library.diagnostics
    resolve(result)
    return result


def resolve(result: Composition) -> None:
    """Validate every section by its spec, then all of them together."""
    specs: dict[str, Any] = {}
    for section, kind in KINDS.items():
        if section in result.nodes:
            value, found = validate(adapter(section), kind, result.nodes[section])
            result.diagnostics += found
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
    """Where to point: at the value, or where the field would stand when it has its default."""
    return place.label if rest else place.value


def choose(document: Mapping) -> Choice:
    """The choices of a valid file of names; null stands for no choice."""
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
    """What specs/experiments/<name>.yaml chooses, or None where it is not valid (and that is noted)."""
    document = library.variant("experiments", name, mark)
    if document is None:
        return None
    value, found = validate(adapter("experiments/"), ExperimentFileSpec, document)
    if value is None:
        library.diagnostics += found
        return None
    return choose(document)


def paths(values: Mapping) -> list[Diagnostic]:
    """The first words of `set` that name no section, and those that do not lead to a field."""
    found = []
    for key, entry in values.entries.items():
        if key not in KINDS:
            known = "" if nearest(key, KINDS) else f"; a path starts with one of {', '.join(KINDS)}"
            found.append(Diagnostic(f"no part is called '{key}'{known}", entry.key, nearest(key, KINDS)))
        elif not isinstance(entry.value, Mapping):
            found.append(Diagnostic(f"name a field of '{key}': `{key}.field: value`", entry.key))
    return found


def overlaid(node: Mapping, part: str, theirs: Choice, own: Choice | None) -> Mapping:
    """A part's variant with the values of `set` over it."""
    for choice in (theirs, own):
        entry = choice.values.entries.get(part) if choice else None
        if entry is not None and isinstance(entry.value, Mapping):
            laid = merge(node, entry.value)
            assert isinstance(laid, Mapping)
            node = laid
    return node


def overlaid_source(node: Node, name: str, theirs: Choice, own: Choice | None) -> Node:
    """A source's file with the values of `set` over it: those for every source, and those for this one."""
    for choice in (theirs, own):
        entry = choice.values.entries.get("sources") if choice else None
        for key, value in entry.value.entries.items() if entry and isinstance(entry.value, Mapping) else ():
            if key in (EACH, name):
                node = merge(node, value.value)
    return node


def gather_sources(
    library: Library, result: Composition, listed: Sequence, theirs: Choice, own: Choice | None
) -> Mapping:
    """The section `sources`: each listed source's file, by name, with the values of `set` over it.

    The key `*` stands for every listed source. Values that the experiment sets for a source of its own list which
    params.yaml leaves out are dropped.
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
        name: Entry(below.key, overlaid_source(below.value, name, theirs, own)) for name, below in entries.items()
    }
    usual = names(theirs.sources) if theirs.sources else []
    for choice in (theirs, own):
        entry = choice.values.entries.get("sources") if choice else None
        if entry is None or not isinstance(entry.value, Mapping):
            continue
        for name, value in entry.value.entries.items():
            here = names(listed)
            if name not in (EACH, *here) and not (choice is theirs and name in usual):
                known = "" if nearest(name, here) else f"; listed are {', '.join(here)}"
                message = f"the source '{name}' is not listed{known}"
                result.diagnostics.append(Diagnostic(message, value.key, nearest(name, here)))
    return Mapping(entries, listed.mark)


def names(listed: Sequence) -> list[str]:
    """The names in a list."""
    return [str(item.value) for item in listed.items if isinstance(item, Scalar)]


def start(source: Source) -> Mark:
    """The first column of a file."""
    return Mark(source, 0, 0, 0, 1)


def files(composition: Composition) -> dict[str, str]:
    """The resolved sections as texts by file name. Raises SpecError where there are errors."""
    composition.require()
    return {f"{section}.yaml": HEADER + dump({section: value}) for section, value in composition.section_files.items()}


def write(composition: Composition, folder: Path = FOLDER) -> list[str]:
    """Write the sections that changed, remove files of none; the names of both. Nothing is touched on an error."""
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
    gone = sorted(path for path in folder.iterdir() if path.name not in texts and path.is_file())
    for path in gone:
        path.unlink()
    return sorted([*changed, *(path.name for path in gone)])
