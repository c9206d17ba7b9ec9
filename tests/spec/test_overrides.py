"""What lies over a file's own values is shown, errors name the line that set it, and a refused value is taken back."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_videos
import yaml
from dvc.utils.hydra import apply_overrides
from test_videos import spec as videos_spec

from roboalign.__main__ import main
from roboalign.run import name_origins
from roboalign.sources.errors import SourceError
from roboalign.sources.ingest_report import IngestReport, check_tolerance
from roboalign.spec.compose import compose_params
from roboalign.spec.document import COMMAND_LINE
from roboalign.spec.library import Library, checkout_of
from roboalign.spec.single import resolve_source

Edit = Callable[[str, str, str], None]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def octo(tree: Path, edit: Edit) -> dict[str, Any]:
    """A source of one's own, with short episodes, in a tree that uses the experiment `smoke`."""
    test_videos.write(tree / "data")
    fields: dict[str, Any] = json.loads(test_videos.spec(tree / "data", length=4).model_dump_json(exclude_unset=True))
    (tree / "specs/sources/octo.yaml").write_text(yaml.safe_dump(fields))
    assert main(["--root", str(tree), "use", "smoke"]) == 0
    edit("params.yaml", "sources: [metaworld,", "sources: [octo, metaworld,")
    return fields


def line_of(tree: Path, name: str, text: str) -> int:
    return next(n for n, line in enumerate((tree / name).read_text().splitlines(), 1) if text in line)


def test_inspect_shows_what_the_experiment_makes_of_a_source(tree: Path, octo: dict[str, Any], capsys: Capture) -> None:
    line = line_of(tree, "specs/experiments/smoke.yaml", "sources.*.length")
    assert main(["--root", str(tree), "inspect", "octo"]) == 1  # as the stage, which keeps none
    printed = capsys.readouterr().out
    assert "  values that the current experiment sets in place of those of the file:\n" in printed
    assert f"    length: 4 → 16 (specs/experiments/smoke.yaml:{line})\n" in printed
    assert f"    image.width: 48 → 32 (specs/experiments/smoke.yaml:{line + 1})\n" in printed
    assert f"    episodes: default → 10 (specs/experiments/smoke.yaml:{line - 1})\n" in printed
    assert "kept          0; 3 left out by length; 0 damaged\n" in printed
    # The path of the file stands for the file alone.
    assert main(["--root", str(tree), "inspect", str(tree / "specs/sources/octo.yaml")]) == 0
    assert "kept          3; 0 damaged\n" in capsys.readouterr().out


def test_params_yaml_has_the_last_word(tree: Path, octo: dict[str, Any], edit: Edit) -> None:
    edit("params.yaml", "set: {}", "set: {sources.octo.length: 5}")
    spec, changes = resolve_source(tree, "octo")
    assert spec.length == 5
    line = line_of(tree, "params.yaml", "sources.octo.length")
    assert f"length: 4 → 5 (params.yaml:{line})" in changes
    composed = compose_params(Library(tree)).sections["sources"]["octo"]
    assert spec.model_dump(mode="json") == composed


def test_a_source_that_is_not_listed_and_a_tree_without_params(tree: Path, octo: dict[str, Any], edit: Edit) -> None:
    edit("params.yaml", "sources: [octo, metaworld,", "sources: [metaworld,")
    assert resolve_source(tree, "octo")[0].length == 16
    (tree / "params.yaml").unlink()
    spec, changes = resolve_source(tree, "octo")
    assert (spec.length, changes) == (4, [])


def test_an_error_of_a_stage_names_the_line_that_set_the_field(tree: Path) -> None:
    assert main(["--root", str(tree), "use", "smoke"]) == 0
    spec = videos_spec(tree / "data")
    with pytest.raises(SourceError) as caught:
        check_tolerance(IngestReport(0, 0, (), (("length", 3),)), spec, "fetch", tree / "listed.json")
    line = line_of(tree, "specs/experiments/smoke.yaml", "sources.*.length")
    assert name_origins(str(caught.value), tree) == (
        f"{tree}/data gives no episode (3 left out by sources.fetch.length (specs/experiments/smoke.yaml:{line})); "
        "change the fields that leave them out"
    )
    # A default, a file's name, and other words are left as they are.
    text = "sources.fetch.seed is odd; see metrics/sources.json; there is no sources.none.length"
    assert name_origins(text, tree) == text


def test_a_doubled_plus_sets_a_value_as_often_as_one_likes(tree: Path) -> None:
    for window in (9, 10, 9):
        apply_overrides(tree / "params.yaml", [f"++set.rollout.decodings.swr.window={window}"])
        assert compose_params(Library(tree)).sections["rollout"]["decodings"]["swr"]["window"] == window


def test_what_a_refused_experiment_leaves_is_said_with_the_way_back(tree: Path, capsys: Capture) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tree), *identity, *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "all")
    apply_overrides(tree / "params.yaml", ["++set.rollout.decodings.swr.window=9000"])
    assert main(["--root", str(tree), "check"]) == 2
    printed = capsys.readouterr().err
    assert "params.yaml differs from the last commit: set.rollout added. A rejected `dvc exp run -S`" in printed
    assert "`git checkout params.yaml` restores it" in printed
    git("checkout", "params.yaml")
    assert main(["--root", str(tree), "check"]) == 0
    # What is wrong, but committed, was left by nobody.
    (tree / "specs/rollout/w6.yaml").write_text("nothing: 1\n")
    assert main(["--root", str(tree), "check"]) == 2
    assert "differs from the last commit" not in capsys.readouterr().err


def test_an_experiment_in_a_temporary_folder_asks_for_git_add(tree: Path) -> None:
    folder = tree / ".dvc/tmp/exps/standalone/tmp123"
    for name in ("specs", "params.yaml"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (tree / name).rename(target) if name == "params.yaml" else subprocess.run(
            ["cp", "-r", str(tree / name), str(target)], check=True
        )
    (tree / "specs/sources/octo.yaml").write_text("kind: videos\n")
    library = Library(folder)
    assert library.variant("sources", "octo", COMMAND_LINE) is None
    assert library.variant("sources", "never", COMMAND_LINE) is None
    first, second = (item.message for item in library.diagnostics)
    assert first == (
        "there is no specs/sources/octo.yaml in this temporary folder, which contains only files that git "
        "tracks; run `git add specs/sources/octo.yaml` in your checkout, then the experiment again"
    )
    assert second.startswith("there is no specs/sources/never.yaml; available: ")
    assert checkout_of(folder) == tree.resolve()
    assert checkout_of(tree) is None
