"""Applying the steps of the README, "Extend", to a copy of the checkout: what is added, and where it goes."""

import ast
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Extension:
    """One new kind of a part."""

    file: str
    """The new file, relative to the checkout."""
    code: str
    """Its content."""
    spec_file: str
    union: str
    """The union in `spec_file` that the spec class becomes a member of."""
    spec: str
    """The spec class."""
    builder_file: str
    imports: str
    """Import lines of the builder."""
    branches: dict[str, str]
    """The branch in each function of `builder_file`."""
    specs: dict[str, str] = field(default_factory=dict)
    """New files under specs/."""
    edits: tuple[tuple[str, str, str], ...] = ()
    """Replacements in YAML files: file, old text, new text."""
    part: str = ""
    """Python that runs the part and prints what came of it; `experiment` is the composed one."""
    printed: str = ""
    """What it prints."""

    @property
    def steps(self) -> tuple[str, ...]:
        """What the README has to name: folder of the new file, union and its file, builder and its file."""
        folder = f"{Path(self.file).parent}/"
        return folder, self.union, self.spec_file, self.builder_file, *self.branches

    def apply(self, checkout: Path) -> None:
        """Add the file, the spec class, the member and the branches."""
        (checkout / self.file).write_text(self.code.lstrip(), encoding="utf-8")
        add_member(checkout / self.spec_file, self.union, self.spec)
        insert_imports(checkout / self.builder_file, self.imports)
        for function, branch in self.branches.items():
            insert_branch(checkout / self.builder_file, function, branch)
        for name, text in self.specs.items():
            (checkout / name).write_text(text.lstrip(), encoding="utf-8")
        for name, old, new in self.edits:
            content = (checkout / name).read_text(encoding="utf-8")
            assert content.count(old) == 1, f"{name} has {old!r} {content.count(old)} times"
            (checkout / name).write_text(content.replace(old, new), encoding="utf-8")


def copy_checkout(folder: Path) -> Path:
    """A copy of the code and the specs."""
    for name in ("roboalign", "stages", "specs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def add_member(file: Path, union: str, spec: str) -> None:
    """Insert a spec class before a union, and its name as the union's last member."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    statement = next(each for each in ast.parse("".join(lines)).body if union in assigned_names(each))
    members = next(node for node in ast.walk(statement) if isinstance(node, ast.BinOp))
    assert members.end_lineno is not None
    name = spec.split("class ")[1].split("(")[0]
    last = lines[members.end_lineno - 1]
    lines[members.end_lineno - 1] = f"{last[: members.end_col_offset]} | {name}{last[members.end_col_offset :]}"
    lines.insert(statement.lineno - 1, f"{spec.strip()}\n\n\n")
    file.write_text("".join(lines), encoding="utf-8")


def assigned_names(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement assigns to."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return (target.id for target in targets if isinstance(target, ast.Name))


def insert_imports(file: Path, imports: str) -> None:
    """Insert import lines before the first import of the package."""
    content = file.read_text(encoding="utf-8")
    file.write_text(content.replace("\nfrom roboalign", f"\n{imports.strip()}\nfrom roboalign", 1), encoding="utf-8")


def insert_branch(file: Path, function: str, branch: str) -> None:
    """Insert a branch before the last one of the `match` of a function."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    tree = ast.parse("".join(lines))
    found = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    match = next(node for node in ast.walk(found) if isinstance(node, ast.Match))
    lines.insert(match.cases[-1].pattern.lineno - 1, branch.strip("\n") + "\n")
    file.write_text("".join(lines), encoding="utf-8")
