"""A run that is compared: a folder as it is, or a commit of this repository, such as a DVC experiment."""

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from typing_extensions import override

from roboalign.io import parse_json
from roboalign.study.experiments import StudyError, git
from roboalign.study.results import Totals, read_totals

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem

CODE = ("roboalign", "stages")
"""The folders whose files are compared as code."""

SECTIONS = "build/spec"
SCORES = "artifacts/evaluation/scores.tsv"


class ComparisonError(Exception):
    """Something cannot be compared; the message says what and what to do."""


class RunSnapshot(ABC):
    """One side of a comparison."""

    name: str
    """As the user gave it."""

    @abstractmethod
    def text(self, path: str) -> str | None:
        """The text of a tracked file; None if it does not exist."""

    @abstractmethod
    def files(self, folder: str) -> list[str]:
        """The paths of the tracked files below a folder, sorted."""

    @abstractmethod
    def code(self) -> dict[str, str]:
        """The git blob id of each file of CODE by its path."""

    @abstractmethod
    def outputs(self, folder: str) -> list[str]:
        """The paths of the outputs of stages below a folder, sorted; some of them may not be at hand."""

    @abstractmethod
    def output_text(self, path: str) -> str | None:
        """The text of an output; None if it is not at hand."""

    @abstractmethod
    def folder(self, path: str, scratch: Path) -> Path | None:
        """A folder of outputs, which may be brought into the folder `scratch`; None if it is not at hand."""

    def sections(self) -> dict[str, Any]:
        """The resolved sections by name. Raises ComparisonError if there are none."""
        texts = [self.text(path) for path in self.files(SECTIONS) if path.endswith(".yaml")]
        sections = {name: value for text in texts if text for name, value in yaml.safe_load(text).items()}
        if not sections:
            raise ComparisonError(f"{self.name} has no {SECTIONS}; run `dvc repro` there, or name another revision")
        return sections

    def metrics(self) -> dict[str, Any]:
        """The content of each file of metrics/ that is at hand, by its path without extension."""
        found = {}
        for path in self.outputs("metrics"):
            text = self.output_text(path) if path.endswith(".json") else None
            if text is not None:
                found[path.removeprefix("metrics/").removesuffix(".json")] = parse_json(text)
        return found

    def totals(self) -> Totals | None:
        """The total scores by (clip set, scorer) and episode; None if the score table is not at hand."""
        text = self.output_text(SCORES)
        return None if text is None else read_totals(text)


class FolderSnapshot(RunSnapshot):
    """A checkout as it is."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name

    @override
    def text(self, path: str) -> str | None:
        file = self.root / path
        return file.read_text(encoding="utf-8") if file.is_file() else None

    @override
    def files(self, folder: str) -> list[str]:
        found = (path for path in (self.root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    @override
    def code(self) -> dict[str, str]:
        return {path: blob_id((self.root / path).read_bytes()) for folder in CODE for path in self.files(folder)}

    @override
    def outputs(self, folder: str) -> list[str]:
        return self.files(folder)

    @override
    def output_text(self, path: str) -> str | None:
        return self.text(path)

    @override
    def folder(self, path: str, scratch: Path) -> Path | None:
        return self.root / path if (self.root / path).is_dir() else None


class CommitSnapshot(RunSnapshot):
    """A commit of the repository at `root`; its outputs are read from DVC's cache."""

    def __init__(self, root: Path, commit: str, name: str) -> None:
        self.root, self.commit, self.name = root, commit, name

    @override
    def text(self, path: str) -> str | None:
        try:
            return git(self.root, "show", f"{self.commit}:{path}")
        except StudyError:
            return None

    @override
    def files(self, folder: str) -> list[str]:
        return git(self.root, "ls-tree", "-r", "--name-only", self.commit, "--", f"{folder}/").splitlines()

    @override
    def code(self) -> dict[str, str]:
        lines = git(self.root, "ls-tree", "-r", self.commit, "--", *(f"{folder}/" for folder in CODE)).splitlines()
        return {path: head.split()[2] for head, _, path in (line.partition("\t") for line in lines)}

    @cached_property
    def _file_system(self) -> "DVCFileSystem":
        """The files of the commit, those in DVC's cache among them."""
        from dvc.api import DVCFileSystem

        return DVCFileSystem(str(self.root), rev=self.commit)

    @override
    def outputs(self, folder: str) -> list[str]:
        from dvc.exceptions import DvcException

        try:
            return sorted(self._file_system.find(folder))
        except (DvcException, OSError):
            return self.files(folder)

    @override
    def output_text(self, path: str) -> str | None:
        from dvc.exceptions import DvcException

        try:
            return self.text(path) or self._file_system.read_text(path, encoding="utf-8")
        except (DvcException, OSError):
            return None

    @override
    def folder(self, path: str, scratch: Path) -> Path | None:
        from dvc.exceptions import DvcException

        out = scratch / self.commit / path
        if out.is_dir():
            return out
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._file_system.get(path, str(out), recursive=True)
        except (DvcException, OSError):
            return None
        return out if out.is_dir() else None


def blob_id(data: bytes) -> str:
    """The id that git gives to a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def open_snapshot(root: Path, name: str) -> RunSnapshot:
    """The run that `name` names: a folder with dvc.yaml, an experiment of DVC, or a revision of git, in this order.

    Raises ComparisonError if it is none of them.
    """
    if (Path(name) / "dvc.yaml").is_file():
        return FolderSnapshot(Path(name), name)
    try:
        refs = git(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines()
        experiments = [line.split()[0] for line in refs if line.rpartition("/")[2] == name]
        if len(experiments) > 1:
            raise ComparisonError(
                f"{len(experiments)} experiments are named {name}; name one by its commit: "
                f"{', '.join(commit[:7] for commit in experiments)}"
            )
        commit = experiments[0] if experiments else git(root, "rev-parse", "--verify", f"{name}^{{commit}}").strip()
    except StudyError:
        raise ComparisonError(
            f"{name} is no folder with dvc.yaml, no experiment of DVC and no revision of git; correct the name"
        ) from None
    return CommitSnapshot(root, commit, name)
