"""The files under specs/: lists the variants, and reads each one once, merged over the file that it extends."""

from collections.abc import Iterator
from pathlib import Path

from roboalign.spec.diagnostics import Diagnostic, nearest
from roboalign.spec.document import DocumentError, Entry, Mapping, Mark, Scalar, Source, read
from roboalign.spec.experiment import KINDS
from roboalign.spec.merge import merge

EXPERIMENTS = "experiments"
STUDIES = "studies"
FOLDERS = (EXPERIMENTS, STUDIES, *KINDS)
"""The folders of specs/."""


class Library:
    """specs/ and params.yaml under `root`. Files are read on first use; errors are collected in `diagnostics`."""

    def __init__(self, root: Path = Path()) -> None:
        self.root = root
        self.diagnostics: list[Diagnostic] = []
        self.documents: dict[str, Mapping | None] = {}
        self.variants: dict[tuple[str, str], Mapping | None] = {}
        self.listed: dict[str, list[str]] = {}

    def names(self, folder: str) -> list[str]:
        """The variants in specs/<folder>/, sorted."""
        if folder not in self.listed:
            self.listed[folder] = sorted(path.stem for path in (self.root / "specs" / folder).glob("*.yaml"))
        return self.listed[folder]

    def document(self, name: str) -> Mapping | None:
        """The file `name` (a path below the root); None if it is not valid YAML, which is added to `diagnostics`."""
        if name not in self.documents:
            try:
                self.documents[name] = read(self.root / name, name)
            except DocumentError as error:
                self.diagnostics.append(Diagnostic(error.message, error.mark))
                self.documents[name] = None
        return self.documents[name]

    def variant(self, folder: str, name: str, mark: Mark) -> Mapping | None:
        """The variant merged over those that it extends; None if it does not exist, which is reported at `mark`."""
        if name not in self.names(folder):
            self.diagnostics.append(self.absent(folder, name, mark))
            return None
        if (folder, name) not in self.variants:
            self.variants[folder, name] = self.resolve_extends(folder, name, (name,))
        return self.variants[folder, name]

    def resolve_extends(self, folder: str, name: str, chain: tuple[str, ...]) -> Mapping | None:
        """The variant's file merged over the one that its key `extends` names; `chain` lists the files visited so
        far."""
        document = self.document(f"specs/{folder}/{name}.yaml")
        if document is None or "extends" not in document.entries:
            return document
        base = document.entries["extends"].value
        rest: dict[str, Entry] = {key: entry for key, entry in document.entries.items() if key != "extends"}
        extension = Mapping(rest, document.mark)
        if not isinstance(base, Scalar) or not isinstance(base.value, str):
            self.diagnostics.append(Diagnostic(f"'extends' must be the name of a file in specs/{folder}/", base.mark))
            return None
        if base.value in chain:
            loop = " → ".join([*chain[chain.index(base.value) :], base.value])
            self.diagnostics.append(Diagnostic(f"'extends' forms a cycle: {loop}", base.mark))
            return None
        if base.value not in self.names(folder):
            self.diagnostics.append(self.absent(folder, base.value, base.mark))
            return None
        below = self.resolve_extends(folder, base.value, (*chain, base.value))
        if below is None:
            return None
        result = merge(below, extension)
        assert isinstance(result, Mapping)
        return Mapping(result.entries, document.mark)

    def absent(self, folder: str, name: str, mark: Mark) -> Diagnostic:
        """The error for a variant that does not exist, or that is missing in DVC's temporary folder as git does not
        track it."""
        names, path = self.names(folder), f"specs/{folder}/{name[:64]}.yaml"
        if (checkout := checkout_of(self.root)) and (checkout / path).is_file():
            message = (
                f"there is no {path} in this temporary folder, which contains only files that git tracks; run `git add "
                f"{path}` in your checkout, then the experiment again"
            )
            return Diagnostic(message, mark)
        suggestion = nearest(name, names)
        known = "" if suggestion else f"; available: {', '.join(names)}" if names else f"; specs/{folder}/ is empty"
        return Diagnostic(f"there is no {path}{known}", mark, suggestion)

    def stray_files(self) -> Iterator[Diagnostic]:
        """Errors for folders and files of specs/ that nothing reads, which are most often misspelled."""
        specs = self.root / "specs"
        if not specs.is_dir():
            remedy = "run this from the root of a project, or create one: `roboalign init FOLDER`"
            yield Diagnostic(f"there is no folder specs/; {remedy}", Mark(Source("specs")))
            return
        for path in sorted(specs.iterdir()):
            name = path.relative_to(self.root).as_posix()
            if path.name.startswith(".") or path.suffix == ".md":
                continue
            if not path.is_dir():
                yield Diagnostic("this file is not in the folder of a part; move it into one", Mark(Source(name)))
            elif path.name not in FOLDERS:
                yield Diagnostic("no part has this name", Mark(Source(name)), nearest(path.name, FOLDERS))
            else:
                for file in sorted(path.iterdir()):
                    if file.suffix in (".yml", ".json", ".toml") or (file.is_dir() and not file.name.startswith(".")):
                        place = Mark(Source(file.relative_to(self.root).as_posix()))
                        yield Diagnostic("this is not read; a variant is a file *.yaml in its part's folder", place)


def checkout_of(root: Path) -> Path | None:
    """The checkout whose experiment runs in `root`, if `root` is one of DVC's temporary folders; otherwise None."""
    parts = root.resolve().parts
    for index in range(len(parts) - 3):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:index])
    return None
