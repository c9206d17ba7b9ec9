"""A copy of the shipped specs that a test may edit."""

import cProfile
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def count_calls(work: Callable[[], object]) -> int:
    """Function calls while `work` runs: a measure of its cost that no busy machine changes."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with the shipped specs/ and a params.yaml that uses the experiment `tiny`."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def edit(tree: Path) -> Callable[[str, str, str], None]:
    """Replace text in a file of the tree, which must hold it."""

    def replace(name: str, old: str, new: str) -> None:
        text = (tree / name).read_text(encoding="utf-8")
        assert old in text, f"{name} has no {old!r}"
        (tree / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return replace
